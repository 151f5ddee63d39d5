import json
import os
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from exits_jax.data.records import AnnotationError
from exits_jax.importers.image_table import ImageTable
from exits_jax.importers.items import ImageItem, ObjectItem, Rejected
from exits_jax.importers.labelme import read
from tests.importers import made

EXAMPLE = (
    Path(os.environ.get("EXITS_DATA", "/nonexistent"))
    / "formats/labelme_example/data_annotated"
)
CLICKS = ((30.0, 10.0), (20.0, 25.5), (40.0, 50.0), (60.0, 30.0))
A_IMAGE = ImageItem("a.jpg", 100, 80)
OUTLINE = [[30, 10], [40, 12], [60, 30], [40, 50], [20, 25]]


def shape(kind="points", vertices=CLICKS, **changes):
    """A shape as labelme writes it; a field that is ... is left out."""
    fields = {
        "label": "cat",
        "points": [list(vertex) for vertex in vertices],
        "group_id": None,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
    }
    fields.update(changes)
    return {key: value for key, value in fields.items() if value is not ...}


def single_points(group, labels=("cat",) * 4):
    return [
        shape("point", [click], group_id=group, label=label)
        for click, label in zip(CLICKS, labels)
    ]


def rectangle(**changes):
    return shape("rectangle", **{"points": [[60, 50], [20, 10]]} | changes)


def content(*shapes, **changes):
    fields = {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": "a.jpg",
        "imageData": None,
        "imageHeight": 80,
        "imageWidth": 100,
    }
    fields.update(changes)
    return {key: value for key, value in fields.items() if value is not ...}


def write(folder, value, name="a.json"):
    path = folder / name
    if not isinstance(value, bytes):
        value = json.dumps(value).encode()
    path.write_bytes(value)
    return path


def items(folder, *shapes, **changes):
    return made.bare(read(write(folder, content(*shapes, **changes))))


def only(folder, *shapes, **changes):
    (item,) = items(folder, *shapes, **changes)
    assert isinstance(item, ObjectItem)
    return item


def rejected_of(folder, *shapes, **changes):
    """The rejected record of shapes that make no object; their image stays."""
    rejected, image = items(folder, *shapes, **changes)
    assert image.file_name == "a.jpg"
    return rejected


# What shapes become


@pytest.mark.parametrize("kind", ["points", "polygon", "linestrip"])
def test_four_vertices_are_clicks_in_their_order(tmp_path, kind):
    item = only(tmp_path, shape(kind))
    assert item[:5] == (A_IMAGE, "cat", CLICKS, None, "px")
    assert item.record == "a.json, shape 1"
    assert item.extra == {}


def test_a_shape_without_a_type_is_a_polygon(tmp_path):
    assert only(tmp_path, shape(shape_type=...)).clicks == CLICKS


@pytest.mark.parametrize("group", [0, 7, "g"])
def test_four_points_of_a_group_are_clicks(tmp_path, group):
    item = only(tmp_path, *single_points(group))
    assert item.clicks == CLICKS
    assert item.record == "a.json, shapes 1, 2, 3, 4"


def test_two_clicks_at_one_place_are_kept(tmp_path):
    clicks = ((1.0, 2.0), (1.0, 2.0), (5.0, 9.0), (7.0, 4.0))
    assert only(tmp_path, shape(vertices=clicks)).clicks == clicks


def test_a_rectangle_is_a_box_alone_whichever_corner_came_first(tmp_path):
    item = only(tmp_path, rectangle())
    assert item.clicks is None
    assert item.box == (20.0, 10.0, 60.0, 50.0)


@pytest.mark.parametrize("clicks", [[shape(group_id=3)], single_points(3)])
def test_a_rectangle_of_the_same_group_only_checks_the_clicks(tmp_path, clicks):
    item = only(tmp_path, rectangle(group_id=3), *clicks)
    assert item.clicks == CLICKS
    assert item.box == (20.0, 10.0, 60.0, 50.0)
    assert item.record.endswith("with the box of a.json, shape 1")


def test_the_extreme_vertices_of_a_polygon_are_taken(tmp_path):
    item = only(tmp_path, shape("polygon", OUTLINE))
    assert item.clicks == ((30.0, 10.0), (20.0, 25.0), (40.0, 50.0), (60.0, 30.0))
    assert item.extra == {"points_source": "polygon"}


def test_polygons_of_a_group_are_parts_of_one_object(tmp_path):
    part = [[70, 5], [90, 8], [80, 20], [71, 12]]
    triangle = [[1, 60], [4, 66], [2, 75]]
    shapes = [shape("polygon", p, group_id=0) for p in (OUTLINE, part, triangle)]
    other = shape("polygon", OUTLINE, group_id=0, label="dog")
    cat, dog = items(tmp_path, *shapes, other)
    assert cat.clicks == ((70.0, 5.0), (1.0, 60.0), (2.0, 75.0), (90.0, 8.0))
    assert cat.record == "a.json, shapes 1, 2, 3"
    assert (dog.category, dog.record) == ("dog", "a.json, shape 4")


def test_an_image_without_shapes_is_listed(tmp_path):
    assert items(tmp_path) == [A_IMAGE]


@pytest.mark.parametrize("missing", [..., None])
def test_a_size_may_be_absent_where_clicks_are_given(tmp_path, missing):
    item = only(tmp_path, shape(), imageWidth=missing, imageHeight=missing)
    assert item.image == ImageItem("a.jpg")


# The path of the image


@pytest.mark.parametrize(
    "path",
    [
        "..\\images\\a.jpg",
        "C:\\Users\\me\\a.jpg",
        "C:/Users/me/a.jpg",
        "\\\\server\\share\\a.jpg",
        "/home/me/a.jpg",
        "../../etc/a.jpg",
        "sub\\a.jpg",
    ],
)
def test_of_a_path_that_leads_elsewhere_the_last_part_is_taken(tmp_path, path):
    made.images(tmp_path / "images")
    (item,) = read(write(tmp_path, content(shape(), imagePath=path)))
    assert made.names_found([item], tmp_path / "images") == ["a.jpg"]


def test_a_path_below_the_folder_is_kept(tmp_path):
    item = only(tmp_path, shape(), imagePath="sub/a.jpg")
    assert item.image.file_name == "sub/a.jpg"
    assert item.extra == {}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"imagePath": ...}, "E112"),
        ({"imagePath": None}, "E112"),
        ({"imagePath": ""}, "E112"),
        ({"imagePath": ".."}, "E112"),
        ({"imagePath": "a\0.jpg"}, "E112"),
        ({"imagePath": "http://169.254.169.254/a.jpg"}, "E112"),
        ({"imagePath": ["a.jpg"]}, "E112"),
        ({"imageWidth": "100"}, "E104"),
        ({"imageWidth": 0}, "E104"),
        ({"imageHeight": -1}, "E104"),
        ({"imageHeight": 80.5}, "E104"),
        ({"imageHeight": float("nan")}, "E104"),
    ],
)
def test_a_faulty_image_is_rejected_with_each_of_its_shapes(tmp_path, changes, code):
    found = items(tmp_path, shape(), rectangle(), **changes)
    assert [item.code for item in found] == [code] * 3
    assert [item.record for item in found] == [
        "a.json",
        "a.json, shape 1",
        "a.json, shape 2",
    ]


@pytest.mark.parametrize("path", ["a.jpg", "C:\\photos\\a.jpg"])
def test_an_image_that_only_its_json_holds_is_rejected_with_a_hint(tmp_path, path):
    (item,) = read(
        write(tmp_path, content(shape(), imagePath=path, imageData="aGVsbG8="))
    )
    with pytest.raises(AnnotationError, match="Write it out"):
        ImageTable(tmp_path).find(item.image)


@pytest.mark.parametrize("elsewhere", [True, False])
def test_embedded_image_data_is_not_needed_where_the_file_is(tmp_path, elsewhere):
    images = tmp_path / "images" if elsewhere else tmp_path
    images.mkdir(exist_ok=True)
    (images / "a.jpg").write_bytes(b"")
    path = write(tmp_path, content(shape(), imageData="no base 64"))
    (item,) = read(path, images=images if elsewhere else None)
    assert item.clicks == CLICKS


# What is rejected


@pytest.mark.parametrize("kind", ["points", "linestrip"])
@pytest.mark.parametrize("count", [0, 3, 5])
def test_other_numbers_of_vertices_are_rejected(tmp_path, kind, count):
    assert rejected_of(tmp_path, shape(kind, OUTLINE[:count])).code == "E207"


def test_a_triangle_is_an_outline(tmp_path):
    (item,) = items(tmp_path, shape("polygon", [[30, 10], [60, 40], [20, 50]]))
    assert item.clicks == ((30, 10), (20, 50), (20, 50), (60, 40))
    assert item.extra == {"points_source": "polygon"}


@pytest.mark.parametrize("count", [0, 2])
def test_a_polygon_with_fewer_vertices_is_rejected(tmp_path, count):
    assert rejected_of(tmp_path, shape("polygon", OUTLINE[:count])).code == "E207"


def test_a_single_point_without_a_group_is_rejected(tmp_path):
    rejected = rejected_of(tmp_path, shape("point", CLICKS[:1]))
    assert rejected.code == "E207"
    assert "group_id" in rejected.message


@pytest.mark.parametrize("count", [1, 3])
def test_a_group_of_fewer_points_is_one_rejected_record(tmp_path, count):
    rejected = rejected_of(tmp_path, *single_points(2)[:count])
    assert rejected.code == "E207"
    assert str(count) in rejected.record


def test_a_group_of_more_points_is_one_rejected_record(tmp_path):
    five = [*single_points(2), shape("point", [[1, 1]], group_id=2)]
    assert rejected_of(tmp_path, *five).code == "E207"


def test_a_group_of_points_with_several_labels_has_no_class(tmp_path):
    labels = ("top", "left", "bottom", "right")
    assert rejected_of(tmp_path, *single_points(2, labels)).code == "E108"


@pytest.mark.parametrize("kind", ["circle", "line", "mask", "novelty", 7, ["mask"]])
def test_shapes_without_extreme_clicks_are_rejected_with_a_reason(tmp_path, kind):
    rejected = rejected_of(tmp_path, shape(kind))
    assert rejected.code == "E217"
    assert repr(kind) in rejected.message


def test_a_rotated_rectangle_is_rejected(tmp_path):
    assert rejected_of(tmp_path, shape("oriented_rectangle")).code == "E215"


def test_a_polygon_in_an_image_without_size_has_extreme_vertices(tmp_path):
    (item,) = items(tmp_path, shape("polygon", OUTLINE), imageWidth=...)
    assert item.clicks == ((30, 10), (20, 25), (40, 50), (60, 30))


SIDED = ("cat topmost", "cat left", "bottom cat", "cat_right")


@pytest.mark.parametrize(
    "labels", [SIDED, ("Top", "leftmost", "bottom point", "right")]
)
def test_points_named_by_their_side_make_an_object(tmp_path, labels):
    box = rectangle(group_id=4)
    (item,) = items(tmp_path, *single_points(4, labels), box)
    assert (item.category, item.clicks) == ("cat", CLICKS)
    assert item.box == (20, 10, 60, 50)


def test_sides_without_a_class_are_rejected(tmp_path):
    labels = ("top", "left", "bottom", "right")
    assert rejected_of(tmp_path, *single_points(4, labels)).code == "E108"


@pytest.mark.parametrize(
    ("offset", "code"), [(150, "E213"), (-150, "E213"), (10**6, "E212")]
)
def test_a_polygon_outside_its_image_is_rejected(tmp_path, offset, code):
    outline = [[x + offset, y] for x, y in OUTLINE]
    assert rejected_of(tmp_path, shape("polygon", outline)).code == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"label": ...}, "E108"),
        ({"label": ""}, "E108"),
        ({"label": 3}, "E108"),
        ({"group_id": 1.5}, "E104"),
        ({"group_id": [1]}, "E104"),
        ({"points": ...}, "E104"),
        ({"points": "30,10"}, "E104"),
        ({"points": [[1, 2], [3, 4], [5, 6], [7]]}, "E104"),
        ({"points": [[1, 2], [3, 4], [5, 6], 7]}, "E104"),
        ({"points": [[1, 2], [3, 4], [5, 6], [7, "8"]]}, "E104"),
        ({"points": [[1, 2], [3, 4], [5, 6], [7, float("nan")]]}, "E104"),
        ({"points": [[1, 2], [3, 4], [5, 6], [float("-inf"), 8]]}, "E104"),
        ({"points": [[1, 2], [3, 4], [5, 6], [7, 10**400]]}, "E104"),
        ({"shape_type": "rectangle"}, "E215"),
        ({"shape_type": "rectangle", "points": [[1, 1], [1, 5]]}, "E201"),
    ],
)
def test_malformed_fields_are_rejected_by_code(tmp_path, changes, code):
    rejected = rejected_of(tmp_path, shape(**changes))
    assert rejected[:2] == ("a.json, shape 1", code)


@pytest.mark.parametrize("entry", [None, 4, "shape", [shape()]])
def test_a_shape_that_is_no_object_is_rejected(tmp_path, entry):
    assert rejected_of(tmp_path, entry).code == "E102"


# Faults of the file, and folders

FAULTS = [
    (b"", "E101"),
    (json.dumps(content(shape())).encode()[:-9], "E101"),
    (json.dumps(content()).encode("utf-16"), "E101"),
    (b"\xc3(", "E101"),
    (b"[" * 10**5, "E101"),
    ([], "E102"),
    ("shapes", "E102"),
    ({"images": [], "annotations": [], "categories": []}, "E102"),
    (content(shapes=None), "E102"),
    (content(shapes={"a": 1}), "E102"),
]


@pytest.mark.parametrize(("value", "code"), FAULTS)
def test_faults_of_a_single_file_are_raised(tmp_path, value, code):
    with pytest.raises(AnnotationError) as caught:
        list(read(write(tmp_path, value)))
    assert caught.value.problems[0].code == code


@pytest.mark.parametrize(("value", "code"), FAULTS)
def test_a_faulty_file_of_a_folder_is_rejected_and_the_others_read(
    tmp_path, value, code
):
    write(tmp_path, value, "a.json")
    write(tmp_path, content(shape(), imagePath="b.jpg"), "b.JSON")
    (tmp_path / "classes.txt").write_text("cat")
    rejected, item = read(tmp_path)
    assert rejected[:2] == ("a.json", code)
    assert item.image.file_name == "b.jpg"


def test_a_folder_without_json_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match="no JSON file") as caught:
        list(read(tmp_path))
    assert caught.value.problems[0].code == "E102"


def test_a_missing_source_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        next(read(tmp_path / "nowhere"))


def test_a_byte_order_mark_is_accepted(tmp_path):
    value = json.dumps(content(shape())).encode("utf-8-sig")
    assert len(list(read(write(tmp_path, value)))) == 1


@pytest.mark.skipif(
    not EXAMPLE.is_dir(), reason="needs EXITS_DATA, a folder with formats/"
)
def test_files_of_labelme_itself_are_read_whole():
    found = list(read(EXAMPLE))
    assert all(isinstance(item, ObjectItem) for item in found)
    assert len(found) == 14  # of 18 polygons: a person has two parts, a sofa four
    shapes = {}
    for path in EXAMPLE.glob("*.json"):
        source = json.loads(path.read_text())
        for number, entry in enumerate(source["shapes"], start=1):
            shapes[path.name, number] = entry
    for item in found:
        file, numbers = item.record.replace("shapes", "shape").split(", shape ")
        parts = [shapes.pop((file, int(number))) for number in numbers.split(", ")]
        assert {part["label"] for part in parts} == {item.category}
        vertices = [vertex for part in parts for vertex in part["points"]]
        (left, top), (right, bottom) = (map(f, zip(*vertices)) for f in (min, max))
        xs, ys = zip(*item.clicks)
        assert [min(xs), min(ys)] == pytest.approx([left, top], abs=1)
        # A chair reaches beyond its image, by 0.4 px.
        assert [max(xs), max(ys)] == pytest.approx([right, bottom], abs=1.5)
    assert not shapes


# Properties

SHAPES = st.sampled_from(
    [
        shape(),
        shape(group_id=1),
        shape("points", OUTLINE),
        shape("polygon", OUTLINE),
        shape("polygon", OUTLINE, group_id=1),
        shape("polygon", OUTLINE[:2], group_id=1),
        shape("polygon", group_id=2),
        shape("point", CLICKS[:1], group_id=1),
        shape("point", CLICKS[1:2], group_id=2),
        shape("point", CLICKS[:1]),
        rectangle(),
        rectangle(group_id=1),
        rectangle(group_id=2, label="dog"),
        shape("circle"),
        None,
    ]
)


@settings(deadline=None, max_examples=80)
@given(shapes=st.lists(SHAPES, max_size=12))
def test_every_shape_is_in_one_object_or_rejected(tmp_path_factory, shapes):
    found = items(tmp_path_factory.mktemp("labelme"), *shapes)
    records = [item for item in found if not isinstance(item, ImageItem)]
    numbers = [
        int(number)
        for item in records
        for part in item.record.split(" with the box of ")
        for number in part.replace("shapes", "shape").split(", shape ")[1].split(", ")
    ]
    assert sorted(numbers) == list(range(1, len(shapes) + 1))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
OF_FILE = ("imagePath", "imageData", "imageHeight", "imageWidth", "flags", "version")
OF_SHAPE = ("label", "points", "group_id", "shape_type", "flags", "mask")
CODES = {"E102", "E104", "E108", "E111", "E112", "E201", "E207"}
CODES |= {"E212", "E213", "E215", "E217"}


@settings(deadline=None, max_examples=200)
@given(
    kind=st.sampled_from(["points", "polygon", "point", "rectangle"]),
    of_shape=st.dictionaries(st.sampled_from(OF_SHAPE), JUNK, max_size=2),
    of_file=st.dictionaries(st.sampled_from(OF_FILE), JUNK, max_size=2),
    vertex=JUNK,
)
def test_junk_in_any_field_gives_items_with_known_codes(
    tmp_path_factory, kind, of_shape, of_file, vertex
):
    made = shape(kind, OUTLINE)
    made["points"][0] = vertex
    folder = tmp_path_factory.mktemp("labelme")
    found = items(folder, made, made | of_shape, **of_file)
    assert len(found) >= 2
    for item in found:
        if isinstance(item, Rejected):
            assert item.code in CODES
            assert "\n" not in item.record + item.message
        elif isinstance(item, ObjectItem) and item.clicks is not None:
            assert len(item.clicks) == 4


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 3, 0, 1), (3, 1, 0, 2)])
def test_a_rectangle_of_four_corners_is_a_box(tmp_path, order):
    corners = [[40, 30], [101, 30.4], [100.6, 91], [40, 91]]
    item = only(tmp_path, shape("rectangle", [corners[place] for place in order]))
    assert (item.clicks, item.box) == (None, (40, 30, 101, 91))


@pytest.mark.parametrize(
    "points",
    [
        [[40, 30], [60, 10], [80, 30], [60, 50]],
        [[40, 30], [40, 30], [80, 50], [80, 50]],
    ],
)
def test_a_rectangle_that_is_not_upright_is_rejected(tmp_path, points):
    assert rejected_of(tmp_path, shape("rectangle", points)).code == "E215"
