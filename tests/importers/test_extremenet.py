import json

import pytest

from exits_jax.data.records import AnnotationError
from exits_jax.importers import extremenet
from exits_jax.importers.write import write_items
from tests.importers import made

POINTS = [[30, 10], [20, 25], [40, 50], [60, 30]]
SHARES = [[0.3, 0.1], [0.2, 0.2], [0.4, 0.5], [0.6, 0.3]]


@pytest.fixture
def folder(tmp_path):
    return made.images(tmp_path / "images", "a.jpg")


def record(number, **changes):
    fields = {
        "id": number,
        "image_id": 7,
        "category_id": 3,
        "bbox": [20, 10, 41, 41],
        "iscrowd": 0,
        "extreme_points": POINTS,
        "segmentation": [[20, 25, 30, 10, 60, 30, 40, 50]],
    }
    return {key: v for key, v in (fields | changes).items() if v is not ...}


def run(folder, *records, text=None, **parts):
    path = folder.parent / "source.json"
    path.write_text(text or json.dumps(made.coco(*records) | parts))
    return write_items(extremenet.read(path), folder.parent / "in.json", folder)


def test_points_are_kept_and_masks_are_not(folder):
    summary = run(folder, record(40))
    (instance,), _ = made.read_back(summary, folder)
    assert instance.extreme_points.tolist() == POINTS and instance.flags == ()
    (written,) = json.loads(summary.output.read_text())["annotations"]
    assert "segmentation" not in written and written["source_id"] == 40


def test_the_declared_order_is_not_trusted(folder):
    shuffled = record(1, extreme_points=POINTS[::-1])
    (instance,), _ = made.read_back(run(folder, shuffled), folder)
    assert instance.extreme_points.tolist() == POINTS


@pytest.mark.parametrize("points", [[], None, ...])
def test_without_points_the_box_is_left(folder, points):
    (instance,), report = made.read_back(
        run(folder, record(1, extreme_points=points)), folder
    )
    assert instance.flags == ("box_only",) and report["counts"]["box_only"] == 1


def test_a_point_on_the_far_edge_is_put_on_the_border(folder):
    edge = record(1, extreme_points=[[30, 10], [20, 25], [40, 50], [100, 30]], bbox=...)
    (instance,), report = made.read_back(run(folder, edge), folder)
    assert instance.extreme_points[3].tolist() == [99, 30]
    assert report["remarked"] == {"W204": 1}


REJECTED = {
    "neither": (dict(extreme_points=[], bbox=...), "E207"),
    "three points": (dict(extreme_points=POINTS[:3]), "E207"),
    "no pairs": (dict(extreme_points=[1, 2, 3, 4]), "E207"),
    "no list": (dict(extreme_points="top"), "E207"),
    "text": (dict(extreme_points=[["30", 10], *POINTS[1:]]), "E104"),
    "NaN": (dict(extreme_points=[[float("nan"), 10], *POINTS[1:]]), "E104"),
    "huge": (dict(extreme_points=[[10**400, 10], *POINTS[1:]]), "E104"),
    "bad box": (dict(bbox=[1, 2, 3]), "E104"),
    "huge box": (dict(bbox=[1, 2, 10**400, 4]), "E104"),
    "image": (dict(image_id=8), "E107"),
    "image id": (dict(image_id=[7]), "E107"),
    "category": (dict(category_id=4), "E108"),
    "crowd": (dict(iscrowd=1), "E219"),
    "crowd?": (dict(iscrowd="no"), "E104"),
    "shares": (dict(extreme_points=SHARES), "E209"),
    "[y, x]": (
        dict(
            extreme_points=[[10, 50], [14, 10], [20, 50], [14, 75]],
            bbox=[10, 10, 66, 11],
        ),
        "E209",
    ),
}


@pytest.mark.parametrize("name", REJECTED)
def test_what_cannot_be_used_is_in_the_report(folder, name):
    changes, code = REJECTED[name]
    summary = run(folder, record(1), record(2, **changes), record(3))
    _, report = made.read_back(summary, folder)
    (note,) = report["rejected"]
    assert (note["record"], note["code"]) == ("annotation 2", code)
    assert summary.counts["records"] == 3


def test_an_entry_that_is_no_object_is_in_the_report(folder):
    _, report = made.read_back(run(folder, record(1), 3, record(2)), folder)
    (note,) = report["rejected"]
    assert (note["record"], note["code"]) == ("entry 1 of annotations", "E102")


def test_an_image_without_a_name_takes_its_objects_along(folder):
    summary = run(folder, record(1), images=[{"id": 7}])
    assert summary.rejected["E112"][0] == 1 and summary.counts["objects"] == 0


@pytest.mark.parametrize("mask", [3, {"size": "?"}, [[float("nan")]], "x" * 99])
def test_what_a_mask_holds_does_not_matter(folder, mask):
    summary = run(folder, record(1, segmentation=mask))
    assert summary.counts["objects"] == 1
    assert "segmentation" not in summary.output.read_text()


FILES = {
    "cut": ('{"images": [', "E101"),
    "list": ("[]", "E102"),
    "no annotations": ('{"images": [], "categories": []}', "E102"),
    "same image twice": (
        '{"images": [{"id": 1}, {"id": 1}], "categories": [], "annotations": []}',
        "E106",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_instances_json_is_refused(folder, name):
    text, code = FILES[name]
    with pytest.raises(AnnotationError, match="source.json") as caught:
        run(folder, text=text)
    assert caught.value.problems[0].code == code
    assert not (folder.parent / "in.json").exists()


def test_a_byte_order_mark_is_accepted(folder):
    summary = run(folder, text="\ufeff" + json.dumps(made.coco(record(1))))
    assert summary.counts["objects"] == 1
