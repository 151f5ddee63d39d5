"""Paths of other machines lead to the right image, or to none."""

import json

import pytest
from PIL import Image

from exits_jax.data.image_names import normal_form
from exits_jax.importers import coco_boxes, cvat_xml, label_studio, labelme
from exits_jax.importers.items import ImageItem
from exits_jax.importers.write import write_items
from tests.importers import made
from tests.importers.test_label_studio import annotation, keypoints, rectangle, task
from tests.importers.test_labelme import content, shape


@pytest.fixture
def images(tmp_path):
    """Two images of one name in different folders, and one beside none."""
    folder = tmp_path / "images"
    for name in ("a.png", "s/a.png", "only.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 80)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.png", "a.png"),
        ("/home/me/images/a.png", "a.png"),
        ("/home/me/images/s/a.png", "s/a.png"),
        ("C:\\work\\s\\a.png", "s/a.png"),
        ("../../s/a.png", "s/a.png"),
        ("t/a.png", "a.png"),
        ("t/none.png", None),
    ],
)
def test_the_longest_end_that_is_a_file_is_taken(tmp_path, images, path, name):
    items = _labeled(tmp_path, images, path)
    assert made.names_found(items, images) == [name]


def _labeled(folder, images, *paths):
    tasks = [
        task(annotation(*keypoints()), id=number, data={"image": path})
        for number, path in enumerate(paths)
    ]
    return label_studio.read(made.write_json(folder / "tasks.json", tasks))


def test_label_studio_tells_images_of_one_name_apart(tmp_path, images):
    local = "/data/local-files/?d=img/"
    items = _labeled(tmp_path, images, f"{local}a.png", f"{local}s/a.png")
    assert made.names_found(items, images) == ["a.png", "s/a.png"]


def test_a_file_at_the_end_of_two_paths_is_neither_image(tmp_path, images):
    items = _labeled(tmp_path, images, "/x/only.png", "/y/only.png", "/x/only.png")
    assert made.names_found(items, images) == [None] * 3


def test_a_file_is_that_of_the_image_which_has_its_name(tmp_path, images):
    items = _labeled(tmp_path, images, "/x/only.png", "only.png")
    assert made.names_found(items, images) == [None, "only.png"]


@pytest.mark.parametrize(
    "paths", [("/x/only.png", "only.png"), ("only.png", "/x/only.png")]
)
def test_the_image_of_another_is_told_so_in_any_order(tmp_path, images, paths):
    summary = write_items(_labeled(tmp_path, images, *paths), tmp_path / "o", images)
    count, message = summary.rejected["E111"]
    assert count == 1
    assert "'/x/only.png' has no file of its own" in message
    assert "stands for only.png." in message


@pytest.mark.parametrize("name", ["./only.png", ".//only.png", "././/only.png"])
def test_spellings_of_a_name_are_one_image(tmp_path, images, name):
    found = [made.item(image=ImageItem(each)) for each in ("only.png", name)]
    summary = write_items(found, tmp_path / "out.json", images)
    assert (summary.counts["objects"], summary.counts["images"]) == (2, 1)
    made.read_back(summary, images)


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("a//./b.jpg", "a/b.jpg"),
        ("\\\\host\\a.jpg", "/host/a.jpg"),
        ("/x/./a.jpg", "/x/a.jpg"),
        ("http://host//a.jpg", "http://host/a.jpg"),
        ("../a.jpg", "../a.jpg"),
        ("x../a.jpg", "x../a.jpg"),
    ],
)
def test_parts_that_lead_nowhere_tell_no_paths_apart(path, form):
    assert normal_form(path) == form


def test_the_report_counts_the_objects_of_every_image_that_shares_a_file(
    tmp_path, images
):
    paths = ("/x/only.png", "a.png", "/y/only.png")
    items = list(_labeled(tmp_path, images, *paths))
    summary = write_items(items, tmp_path / "out.json", images)
    assert summary.counts["objects"] == 1 and summary.counts["images"] == 1
    count, message = summary.rejected["E111"]
    assert count == 2
    assert "what '/y/only.png' lead to as well" in message


def test_a_rectangle_beside_keypoints_of_its_label_is_their_box(tmp_path):
    (tmp_path / "t.json").write_text(
        json.dumps([task(annotation(rectangle(), *keypoints()))])
    )
    (item,) = label_studio.read(tmp_path / "t.json")
    assert item.clicks is not None and item.box is not None


def test_of_two_rectangles_beside_keypoints_none_is_taken(tmp_path):
    regions = [rectangle("one"), rectangle("two"), *keypoints()]
    (tmp_path / "t.json").write_text(json.dumps([task(annotation(*regions))]))
    item, *refused = label_studio.read(tmp_path / "t.json")
    assert item.clicks is not None and item.box is None
    assert [other.code for other in refused] == ["E217", "E217"]


def _files(folder, **paths):
    for name, path in paths.items():
        place = folder / f"{name.replace('__', '/')}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(content(shape(), imagePath=path)))


def test_labelme_paths_are_relative_to_their_json(tmp_path, images):
    _files(tmp_path, labels__x="../images/s/a.png", labels__y="../images/a.png")
    items = list(labelme.read(tmp_path / "labels", images))
    assert made.names_found(items, images) == ["s/a.png", "a.png"]


def test_labelme_files_in_folders_below_are_read(images):
    _files(images, a="a.png", s__a="a.png")
    (images / "export_report.json").write_text("{}")
    items = list(labelme.read(images, images))
    assert made.names_found(items, images) == ["a.png", "s/a.png"]
    assert items[1].record.startswith("s/a.json")


def test_labelme_files_of_two_folders_do_not_share_an_image(tmp_path, images):
    _files(tmp_path, labels__x__1="only.png", labels__y__1="only.png")
    items = list(labelme.read(tmp_path / "labels", images))
    assert made.names_found(items, images) == [None, None]


def test_images_without_a_name_are_found_by_their_url(tmp_path, images):
    url = "http://images.cocodataset.org/s/a.png"
    record = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}
    source = {
        "images": [{"id": 1, "coco_url": url, "width": 9, "height": 9}],
        "annotations": [record],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "lvis.json").write_text(json.dumps(source))
    _, item = coco_boxes.read(tmp_path / "lvis.json")
    assert made.names_found([item], images) == ["s/a.png"]


def test_images_of_one_name_in_coco_are_not_one_image(tmp_path, images):
    record = {"category_id": 1, "bbox": [1, 1, 5, 5]}
    source = {
        "images": [{"id": key, "file_name": "a.png"} for key in (1, 2)],
        "annotations": [record | {"id": key, "image_id": key} for key in (1, 2)],
        "categories": [{"id": 1, "name": "cat"}],
    }
    items = list(coco_boxes.read(made.write_json(tmp_path / "merged.json", source)))
    assert made.names_found(items, images) == ["a.png", None]
    remarks = write_items(items, tmp_path / "out.json", images).remarks
    assert "W106" in remarks and "(image 2)" in remarks["W106"][1]


@pytest.mark.parametrize(
    ("subsets", "names"),
    [(("s", "t"), ["s/a.png", "a.png"]), (("t", "u"), ["a.png", None])],
)
def test_tasks_of_a_cvat_project_do_not_share_an_image(
    tmp_path, images, subsets, names
):
    shape = '<points label="cat" points="30,10;20,25;40,50;60,30"/>'
    listed = "".join(
        f'<image id="{key}" name="a.png" subset="{subset}">{shape}</image>'
        for key, subset in enumerate(subsets)
    )
    path = tmp_path / "annotations.xml"
    path.write_text(f"<annotations>{listed}</annotations>")
    assert made.names_found(cvat_xml.read(path), images) == names
