"""VIA, YOLO and PASCAL VOC: what each shape becomes, and what is rejected."""

import json

import pytest

from exits_jax.data.records import AnnotationError
from exits_jax.importers import via, voc_xml, yolo
from exits_jax.importers.items import ImageItem, ObjectItem
from exits_jax.importers.write import write_items
from tests.importers import made


def project(folder, *shapes, about=None):
    regions = [
        {"shape_attributes": shape, "region_attributes": about or {"class": "cat"}}
        for shape in shapes
    ]
    entry = {"filename": "a.jpg", "size": 5, "regions": regions, "file_attributes": {}}
    content = {"_via_settings": {}, "_via_img_metadata": {"a.jpg5": entry}}
    return list(via.read(made.write_json(folder / "via.json", content)))


RECT = {"name": "rect", "x": 4, "y": 5, "width": 10, "height": 20}


def test_a_rect_of_via_is_a_box(tmp_path):
    (item,) = project(tmp_path, RECT)
    assert item[1:5] == ("cat", None, (4.0, 5.0, 14.0, 25.0), "px")


def test_an_outline_of_via_gives_its_extreme_vertices(tmp_path):
    shape = {
        "name": "polygon",
        "all_points_x": [10, 20, 30, 25, 15],
        "all_points_y": [15, 5, 15, 25, 20],
    }
    (item,) = project(tmp_path, shape)
    assert item.clicks == ((20, 5), (10, 15), (25, 25), (30, 15))


@pytest.mark.parametrize(
    ("about", "category"),
    [
        ({"class": "cat"}, "cat"),
        ({"Label": "dog", "note": "old"}, "dog"),
        ({"kind": "cow"}, "cow"),
        ({"type": {"cat": True, "dog": False}}, "cat"),
    ],
)
def test_the_class_of_via_is_among_its_attributes(tmp_path, about, category):
    (item,) = project(tmp_path, RECT, about=about)
    assert item.category == category


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        ({"name": "circle", "cx": 5, "cy": 5, "r": 3}, "E217"),
        ({**RECT, "x": None}, "E104"),
        ({**RECT, "width": 0}, "E201"),
        ({"name": "polyline", "all_points_x": [1, 2], "all_points_y": [1, 2]}, "E207"),
        ({"name": "polygon", "all_points_x": [1], "all_points_y": 3}, "E104"),
        (None, "E104"),
    ],
)
def test_other_shapes_of_via_are_rejected(tmp_path, shape, code):
    rejected, image = project(tmp_path, shape)
    assert (rejected.code, type(image)) == (code, ImageItem)


def test_the_table_of_via_is_read_like_its_json(tmp_path):
    cells = [json.dumps(RECT), json.dumps({"class": "cat"})]
    quoted = ",".join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in cells)
    head = "filename,file_size,region_count,region_shape_attributes,region_attributes"
    path = tmp_path / "via.csv"
    path.write_text(f"{head}\na.jpg,5,1,{quoted}\n")
    (item,) = via.read(path)
    assert item[1:4] == ("cat", None, (4.0, 5.0, 14.0, 25.0))


def labels(folder, *lines, names="names: [cat, dog]\n"):
    (folder / "labels" / "train").mkdir(parents=True, exist_ok=True)
    (folder / "labels" / "train" / "a.txt").write_text("\n".join(lines))
    (folder / "data.yaml").write_text(names)
    return list(yolo.read(folder / "data.yaml"))


def test_five_numbers_of_yolo_are_a_box(tmp_path):
    (item,) = labels(tmp_path, "1 0.5 0.5 0.2 0.4")
    assert item.category == "dog" and item.unit == "share"
    assert item.box == pytest.approx((0.4, 0.3, 0.6, 0.7))


def test_signs_of_yaml_may_stand_in_the_names_of_yolo(tmp_path):
    names = 'names: ["salt & pepper", "a * b"]\n'
    (item,) = labels(tmp_path, "0 0.5 0.5 0.2 0.4", names=names)
    assert item.category == "salt & pepper"


def test_a_yaml_that_unfolds_is_refused(tmp_path):
    names = "a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]\n"
    with pytest.raises(AnnotationError, match="has aliases"):
        labels(tmp_path, "0 0.5 0.5 0.2 0.4", names=names)


def test_an_outline_of_yolo_gives_its_extreme_vertices(tmp_path):
    (item,) = labels(tmp_path, "0 .1 .3 .2 .1 .4 .3 .3 .5 .15 .4")
    assert item.clicks == ((0.2, 0.1), (0.1, 0.3), (0.3, 0.5), (0.4, 0.3))


@pytest.mark.parametrize("folder", [".", "images", "images/train"])
def test_labels_of_yolo_find_the_image_of_their_name(tmp_path, folder):
    items = labels(tmp_path, "1 0.5 0.5 0.2 0.4")
    made.images(tmp_path / "images" / "train", "a.png")
    if folder == "images/train":
        items = list(yolo.read(tmp_path / "labels" / "train"))
    (name,) = made.names_found(items, tmp_path / folder)
    assert name is not None and name.endswith("a.png")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("2 0.5 0.5 0.2 0.4", "E108"),
        ("0 0.5 0.5 0.2", "E207"),
        ("0 0.5 0.5 0.2 0.4 0.9", "E207"),
        ("0 0.5 0.5 0 0.4", "E201"),
        ("0 nan 0.5 0.2 0.4", "E104"),
        ("cat 0.5 0.5 0.2 0.4", "E104"),
    ],
)
def test_other_lines_of_yolo_are_rejected(tmp_path, line, code):
    rejected, image = labels(tmp_path, line)
    assert (rejected.code, type(image)) == (code, ImageItem)


@pytest.mark.parametrize(
    "names", ["a: 1", "names: cat", "names: [", "kpt_shape: [4, 3]\nnames: [cat]", ""]
)
def test_labels_of_yolo_without_usable_names_are_refused(tmp_path, names):
    with pytest.raises(AnnotationError):
        labels(tmp_path, "0 0.5 0.5 0.2 0.4", names=names)


def xml(folder, *objects, size="", name="a.jpg"):
    path = folder / "a.xml"
    text = f"<filename>{name}</filename>{size}{''.join(objects)}"
    path.write_text(f"<annotation>{text}</annotation>")
    return list(voc_xml.read(path))


def entry(box="4,5,14,25", extra=""):
    keys = ("xmin", "ymin", "xmax", "ymax")
    inner = "".join(f"<{k}>{v}</{k}>" for k, v in zip(keys, box.split(",")))
    return f"<object><name>cat</name><bndbox>{inner}</bndbox>{extra}</object>"


def test_a_bndbox_is_a_box_as_it_is_written(tmp_path):
    (item,) = xml(tmp_path, entry(extra="<difficult>1</difficult>"))
    assert item[1:5] == ("cat", None, (4.0, 5.0, 14.0, 25.0), "px")
    assert item.extra == {"is_difficult": True}


def test_a_size_of_nothing_is_left_to_the_image(tmp_path):
    size = "<size><width>0</width><height>0</height></size>"
    (item,) = xml(tmp_path, entry(), size=size)
    assert item.image.width is None


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (entry("4,5,x,25"), "E104"),
        (entry("4,5,4,25"), "E201"),
        ("<object><name>cat</name><robndbox/></object>", "E215"),
        ("<object><name>cat</name><polygon/></object>", "E217"),
        ("<object><bndbox/></object>", "E108"),
    ],
)
def test_other_objects_of_voc_are_rejected(tmp_path, found, code):
    rejected, image = xml(tmp_path, found)
    assert (rejected.code, type(image)) == (code, ImageItem)


def test_entities_of_voc_are_never_resolved(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>')
    with pytest.raises(AnnotationError) as caught:
        list(voc_xml.read(path))
    assert caught.value.problems[0].code == "E116"


def test_files_of_two_folders_do_not_share_an_image(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / "labels" / folder).mkdir(parents=True)
        xml(tmp_path / "labels" / folder, entry())
    images = made.images(tmp_path / "images")
    items = [item for item in voc_xml.read(tmp_path / "labels")]
    assert all(isinstance(item, ObjectItem) for item in items)
    assert made.names_found(items, images) == [None, None]


def test_an_outline_over_the_edge_is_clipped_with_a_remark(tmp_path):
    items = labels(tmp_path, "0 .1 .3 .2 .1 .4 .3 .3 1.04 .15 .4")
    images = made.images(tmp_path / "images" / "train").parent.parent
    summary = write_items(items, tmp_path / "out.json", images)
    (instance,), report = made.read_back(summary, images)
    assert instance.extreme_points[2].tolist() == [29.5, 79.0]
    assert report["remarked"]["W204"] == 1


def test_a_share_far_over_the_edge_is_another_unit(tmp_path):
    items = labels(tmp_path, "0 .5 .5 .2 1.3")
    images = made.images(tmp_path / "images" / "train").parent.parent
    summary = write_items(items, tmp_path / "out.json", images)
    assert list(summary.rejected) == ["E209"]
