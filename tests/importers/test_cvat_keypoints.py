import json

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from exits_jax.data.records import AnnotationError
from exits_jax.importers.cvat_keypoints import read
from exits_jax.importers.items import ImageItem, ObjectItem, Rejected
from tests.importers import made

CLICKS = ((30.0, 10.0), (20.0, 25.5), (40.0, 50.0), (60.0, 30.0))
A_IMAGE = ImageItem("a.jpg", 100, 80)
NAMES = ["one", "two", "three", "four"]
SIDES = ["top", "left", "bottom", "right"]


def flat(clicks=CLICKS, visibility=2):
    return [value for x, y in clicks for value in (x, y, visibility)]


def annotation(**changes):
    """A record as CVAT writes it; a field that is ... is left out."""
    record = {
        "id": 7,
        "image_id": 1,
        "category_id": 3,
        "segmentation": [],
        "area": 1640.0,
        "bbox": [20, 10, 40, 40],
        "iscrowd": 0,
        "attributes": {"occluded": False},
        "keypoints": flat(),
        "num_keypoints": 4,
    }
    record.update(changes)
    return {key: value for key, value in record.items() if value is not ...}


def export(*records, names=NAMES, image=(), **changes):
    first = {"id": 1, "width": 100, "height": 80, "file_name": "a.jpg", "license": 0}
    category = {"id": 3, "name": "cat", "supercategory": "", "skeleton": [[1, 2]]}
    source = {
        "licenses": [],
        "info": {},
        "categories": [{**category, "keypoints": names}],
        "images": [{**first, **dict(image)}],
        "annotations": list(records),
    }
    return source | changes


def items_of(folder, content):
    path = folder / "person_keypoints_default.json"
    if not isinstance(content, bytes):
        content = json.dumps(content).encode()
    path.write_bytes(content)
    return made.bare(read(path))


def only(folder, *args, **options):
    (item,) = items_of(folder, export(*args, **options))
    assert isinstance(item, ObjectItem)
    return item


def code_of(folder, record, **options):
    """The code of a record that is rejected; its image stays."""
    rejected, kept = items_of(folder, export(record, **options))
    assert kept == A_IMAGE
    return rejected.code


def file_code(folder, content):
    with pytest.raises(AnnotationError) as caught:
        items_of(folder, content)
    (problem,) = caught.value.problems
    return problem.code


# What annotations become


def test_four_keypoints_are_clicks_in_their_order(tmp_path):
    item = only(tmp_path, annotation())
    assert item[:6] == (
        A_IMAGE,
        "cat",
        CLICKS,
        (20.0, 10.0, 60.0, 50.0),
        "px",
        "annotation 7",
    )
    assert item.extra == {"attributes": {"occluded": False}, "source_id": 7}


@pytest.mark.parametrize("visibility", [1, 2, 2.0])
def test_hidden_keypoints_are_clicks_all_the_same(tmp_path, visibility):
    assert only(tmp_path, annotation(keypoints=flat(CLICKS, visibility))).clicks


def test_the_sides_are_taken_from_more_keypoints_by_their_names(tmp_path):
    names = ["centre", "Right", " LEFT", "top", "bottom", "tail"]
    top, left, bottom, right = CLICKS
    points = ((1, 1), right, left, top, bottom, (2, 2))
    keypoints = flat(points)
    keypoints[2] = 0  # the centre is missing, which does not matter
    item = only(tmp_path, annotation(keypoints=keypoints), names=names)
    assert item.clicks == CLICKS


@pytest.mark.parametrize("names", [None, []])
def test_four_keypoints_need_no_names(tmp_path, names):
    assert only(tmp_path, annotation(), names=names).clicks == CLICKS


def test_a_box_is_not_needed(tmp_path):
    assert only(tmp_path, annotation(bbox=...)).box is None


def test_attributes_keep_what_json_can_hold(tmp_path):
    attributes = {"a": "x", "b": True, "c": 2, "d": 0.5, "e": float("nan"), "f": []}
    item = only(tmp_path, annotation(attributes=attributes))
    assert item.extra["attributes"] == {"a": "x", "b": True, "c": 2, "d": 0.5}


def test_images_without_objects_are_listed(tmp_path):
    images = [{"id": "b", "file_name": "b.jpg"}, {"id": 1, "file_name": "a.jpg"}]
    source = export(annotation(), images=images)
    found = items_of(tmp_path, source)
    assert found[1:] == [ImageItem("b.jpg")]
    assert found[0].image == ImageItem("a.jpg")


def test_an_export_without_annotations_lists_its_images(tmp_path):
    assert items_of(tmp_path, export()) == [A_IMAGE]


def test_a_byte_order_mark_is_accepted(tmp_path):
    content = json.dumps(export(annotation())).encode("utf-8-sig")
    assert len(items_of(tmp_path, content)) == 1


def test_two_clicks_at_one_place_are_kept(tmp_path):
    clicks = ((1.0, 2.0), (1.0, 2.0), (5.0, 9.0), (7.0, 4.0))
    assert only(tmp_path, annotation(keypoints=flat(clicks))).clicks == clicks


# What is rejected


@pytest.mark.parametrize("missing", range(4))
def test_a_missing_keypoint_is_named(tmp_path, missing):
    keypoints = flat()
    keypoints[3 * missing : 3 * missing + 3] = [0, 0, 0]
    rejected, _ = items_of(tmp_path, export(annotation(keypoints=keypoints)))
    assert rejected.code == "E207"
    assert f"keypoint {missing + 1} is missing" in rejected.message


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"keypoints": flat(CLICKS[:3])}, "E207"),
        ({"keypoints": flat(CLICKS + ((1, 1),))}, "E207"),
        ({"keypoints": flat()[:-1]}, "E207"),
        ({"keypoints": []}, "E207"),
        ({"keypoints": ...}, "E207"),
        ({"keypoints": "48 20 2"}, "E207"),
        ({"keypoints": [float("nan"), 1, 2] + flat()[3:]}, "E104"),
        ({"keypoints": [1, float("inf"), 2] + flat()[3:]}, "E104"),
        ({"keypoints": ["1", 1, 2] + flat()[3:]}, "E104"),
        ({"keypoints": [1, True, 2] + flat()[3:]}, "E104"),
        ({"keypoints": [1, 10**400, 2] + flat()[3:]}, "E104"),
        ({"keypoints": [1, 1, 3] + flat()[3:]}, "E104"),
        ({"keypoints": [1, 1, None] + flat()[3:]}, "E104"),
        ({"bbox": [1, 2, 3]}, "E104"),
        ({"bbox": "box"}, "E104"),
        ({"bbox": [1, 2, float("nan"), 4]}, "E104"),
        ({"bbox": [20, 10, 0, 40]}, "E201"),
        ({"bbox": [20, 10, 40, -1]}, "E201"),
        ({"image_id": 99}, "E107"),
        ({"image_id": [1]}, "E107"),
        ({"image_id": ...}, "E107"),
        ({"category_id": 99}, "E108"),
        ({"category_id": {}}, "E108"),
        ({"iscrowd": 1}, "E219"),
        ({"iscrowd": "no"}, "E104"),
    ],
)
def test_malformed_fields_are_rejected_by_code(tmp_path, changes, code):
    assert code_of(tmp_path, annotation(**changes)) == code


@pytest.mark.parametrize("record", [None, 5, "annotation", [annotation()]])
def test_an_entry_that_is_no_object_is_rejected(tmp_path, record):
    rejected, _ = items_of(tmp_path, export(record))
    assert rejected[:2] == ("entry 0 of annotations", "E102")


@pytest.mark.parametrize(
    "names", [SIDES, [*SIDES[:3], "a", "b"], [*SIDES, "top"], "sides", [1, 2, 3, 4, 5]]
)
def test_more_keypoints_without_the_names_of_the_sides_are_rejected(tmp_path, names):
    keypoints = flat((*CLICKS, (1, 1)))
    assert code_of(tmp_path, annotation(keypoints=keypoints), names=names) == "E207"


def test_a_category_without_a_name_is_no_class(tmp_path):
    categories = [{"id": 3, "keypoints": NAMES}]
    assert code_of(tmp_path, annotation(), categories=categories) == "E108"


@pytest.mark.parametrize(
    ("image", "code"),
    [
        ({"file_name": "../.."}, "E112"),
        ({"file_name": ""}, "E112"),
        ({"file_name": "a\0.jpg"}, "E112"),
        ({"file_name": None}, "E112"),
        ({"file_name": ["a.jpg"]}, "E112"),
        ({"width": 0}, "E104"),
        ({"height": "80"}, "E104"),
        ({"width": 100.5}, "E104"),
        ({"height": 10**300}, "E104"),
    ],
)
def test_a_faulty_image_is_rejected_with_its_annotations(tmp_path, image, code):
    found = items_of(tmp_path, export(annotation(), annotation(id=8), image=image))
    assert [item.code for item in found] == [code] * 3
    assert [item.record for item in found] == [
        "image 1",
        "annotation 7",
        "annotation 8",
    ]


# Faults of the file


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        next(read(tmp_path / "nowhere.json"))


def test_an_export_without_keypoints_says_which_to_choose(tmp_path):
    source = export(annotation(keypoints=...))
    del source["categories"][0]["keypoints"]
    with pytest.raises(AnnotationError, match="'COCO 1.0' leaves points out") as caught:
        items_of(tmp_path, source)
    assert caught.value.problems[0].code == "E102"
    assert "'COCO Keypoints 1.0'" in str(caught.value)
    assert "'CVAT for images 1.1'" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "E101"),
        (b"not JSON", "E101"),
        (json.dumps(export(annotation())).encode()[:-20], "E101"),
        (json.dumps(export()).encode("utf-16"), "E101"),
        (b"\xff\xfe\xfd", "E101"),
        (b"[" * 10**5, "E101"),
        ([{"image_id": 1, "keypoints": flat()}], "E102"),
        ({"images": [], "categories": []}, "E102"),
        (export(annotations=None), "E102"),
        (export(annotations={}), "E102"),
        (export(images=[{"file_name": "a.jpg"}]), "E102"),
        (export(images=[{"id": 1}, {"id": 1}]), "E106"),
        (export(names=[float("nan")]), "E104"),
        (export(image={"width": float("inf")}), "E104"),
    ],
)
def test_faults_of_the_file_are_raised(tmp_path, content, code):
    assert file_code(tmp_path, content) == code


def test_the_byte_where_it_stops_to_be_json_is_named(tmp_path):
    content = json.dumps(export(annotation())).encode() + b"}"
    with pytest.raises(AnnotationError, match=f"at byte {len(content) - 1} of"):
        items_of(tmp_path, content)


# Properties

RECORDS = st.sampled_from(
    [
        annotation(),
        annotation(id=8, bbox=...),
        annotation(id=9, keypoints=flat(CLICKS[:2])),
        annotation(id=10, iscrowd=1),
        annotation(id=11, image_id=2),
        annotation(id=12, image_id=3),
        None,
    ]
)


@settings(deadline=None, max_examples=60)
@given(records=st.lists(RECORDS, max_size=8))
def test_every_annotation_is_one_object_or_rejected(tmp_path_factory, records):
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]
    folder = tmp_path_factory.mktemp("keypoints")
    found = items_of(folder, export(*records, images=images))
    kept = [item for item in found if isinstance(item, ObjectItem)]
    rejected = [item for item in found if isinstance(item, Rejected)]
    assert len(kept) + len(rejected) == len(records)
    listed = {item.image for item in kept}
    listed |= {item for item in found if isinstance(item, ImageItem)}
    assert {image.file_name for image in listed} == {"a.jpg", "b.jpg"}


def junk(**of_floats):
    scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
    return st.recursive(
        scalars | st.floats(**of_floats),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner),
        max_leaves=6,
    )


JUNK = junk()
FINITE_JUNK = junk(allow_nan=False, allow_infinity=False)
FIELDS = ("id", "image_id", "category_id", "bbox", "iscrowd", "keypoints", "attributes")
CODES = {"E102", "E104", "E107", "E108", "E112", "E201", "E207", "E219"}


@settings(deadline=None, max_examples=150)
@given(
    fields=st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=3),
    of_image=st.dictionaries(
        st.sampled_from(["file_name", "width", "height"]), FINITE_JUNK
    ),
    names=FINITE_JUNK,
    number=st.none() | st.tuples(st.integers(0, 11), JUNK),
)
def test_junk_in_any_field_gives_items_with_known_codes(
    tmp_path_factory, fields, of_image, names, number
):
    record = annotation(**fields)
    if number is not None and "keypoints" not in fields:
        record["keypoints"][number[0]] = number[1]
    folder = tmp_path_factory.mktemp("keypoints")
    found = items_of(folder, export(record, names=names, image=of_image))
    for item in found:
        if isinstance(item, Rejected):
            assert item.code in CODES
            assert "\n" not in item.record + item.message
        elif isinstance(item, ObjectItem):
            assert len(item.clicks) == 4
            json.dumps(item.extra, allow_nan=False)
    assert len(found) == 2 or isinstance(found[0], ObjectItem)
