"""Sums and oddities of drawn data sets."""

import json
from functools import partial

import numpy as np
import pytest
from PIL import Image

from exits_jax.data.annotations import read_instances
from exits_jax.data.extreme_points import points_of_record
from exits_jax.data.images import IMAGE_REMARKS
from exits_jax.data.records import FLAG_CODES
from exits_jax.validation.codes import CODES
from exits_jax.validation.oddities import drawable, oddities
from exits_jax.validation.survey import record_at, survey

WIDTH, HEIGHT = 400, 300


def record(number, box=(20, 10, 60, 40), **changes):
    x, y, width, height = box
    fields = {"id": number, "image_id": 1, "category_id": 1, "bbox": list(box)}
    fields["extreme_points"] = [
        [x + width // 2, y],
        [x, y + height // 2],
        [x + width // 2, y + height - 1],
        [x + width - 1, y + height // 2],
    ]
    fields |= changes
    return {key: value for key, value in fields.items() if value is not ...}


@pytest.fixture
def found(tmp_path):
    """Makes the survey of some records; the second image has no file."""

    def make(*records, images=()):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.png")
        size = {"width": WIDTH, "height": HEIGHT}
        listed = [{"id": 1, "file_name": "a.png"} | size]
        listed += [{"id": 2, "file_name": "gone.png"} | size, *images]
        source = {"images": listed, "annotations": list(records)}
        source["categories"] = [{"id": 1}]
        (tmp_path / "x.json").write_text(json.dumps(source))
        dataset = read_instances(
            tmp_path / "x.json",
            tmp_path,
            max_skip_fraction=1.0,
            points_of=partial(points_of_record, mode="clean"),
        )
        return survey(dataset)

    return make


def codes(found):
    return [(item.position, item.code) for item in oddities(found, "")]


def test_every_record_is_counted_once(found):
    square = [[20, 10, 80, 10, 80, 50, 20, 50]]
    counts = found(
        record(1),
        record(2, extreme_points=..., segmentation=square),
        record(3, extreme_points=...),
        record(4, extreme_points=..., iscrowd=1, segmentation=square),
        record(5, category_id=9),
        "no record",
        record(6, image_id=2),
    ).counts
    assert counts == {
        "images": 2,
        "images_without_annotations": 0,
        "categories": 1,
        "annotations": 7,
        "with_masks": 2,
        "usable": 4,
        "with_extreme_points": 1,
        "points_from_masks": 1,
        "box_only": 1,
        "crowds": 1,
    }


def test_images_without_annotations_are_counted(found):
    assert found(record(1)).counts["images_without_annotations"] == 1


def test_a_crowd_without_points_is_no_remark(found):
    crowd = record(1, extreme_points=..., iscrowd=1)
    assert [remark.code for remark in found(crowd).remarks] == []
    plain = found(record(1, extreme_points=...)).remarks
    assert [(remark.code, remark.names) for remark in plain] == [("W210", [1])]


def test_coordinates_that_never_exceed_a_hundred_are_remarked(found):
    small = [record(k, (k, k, 50, 40)) for k in range(1, 12)]
    assert [remark.code for remark in found(*small).remarks] == ["W209"]
    assert found(*small, record(12, (99, 9, 50, 40))).remarks == []
    assert found(*small[:5]).remarks == []


def test_a_file_name_used_twice_is_remarked(found):
    again = {"id": 3, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}
    (remark,) = found(record(1), images=[again]).remarks
    assert remark == ("W106", "images", ["a.png"])


def test_plain_records_are_not_odd(found):
    assert codes(found(record(1), record(2))) == []


def test_each_kind_comes_once_before_any_comes_twice(found):
    dataset = found(
        record(1, category_id=9),
        record(2, category_id=9),
        record(3, (20, 10, 200, 20)),
        record(4, (20, 10, 300, 20)),
        record(5, bbox=[20, 10, 60, 99]),
        record(6, (5, 5, 9, 9)),
    )
    assert codes(dataset) == [
        (0, "E108"),
        (4, "W208"),
        (3, "thin"),
        (5, "tiny"),
        (1, "E108"),
        (2, "thin"),
    ]


def test_a_record_that_is_odd_in_two_ways_comes_once(found):
    assert codes(found(record(1, (20, 10, 15, 2)))) == [(0, "thin")]


def test_points_farthest_from_their_box_come_first(found):
    dataset = found(record(1, bbox=[20, 10, 60, 60]), record(2, bbox=[20, 10, 60, 90]))
    notes = [(item.position, item.note) for item in oddities(dataset, "")]
    assert notes == [
        (1, "points and bbox are 50 px apart"),
        (0, "points and bbox are 20 px apart"),
    ]


def test_a_box_that_fills_its_image_is_large(found):
    (large,) = oddities(found(record(1, (0, 0, WIDTH, HEIGHT))), "")
    assert (large.code, large.note) == ("large", "100 % of its image")


def test_notes_name_neither_the_record_nor_the_folder(found, tmp_path):
    dataset = found(record(1, image_id=2))
    (gone,) = oddities(dataset, str(tmp_path))
    assert gone.note.startswith("image 2: its file 'gone.png' is missing")


def test_what_a_faulty_record_has_is_drawn(found, tmp_path):
    dataset = found(record(1, category_id=9), record(2, bbox=["a", 1, 2, 3]))
    path, points, box = drawable(dataset, 0, str(tmp_path), follow_links=False)
    assert path == str(tmp_path / "a.png")
    assert points.shape == (4, 2) and box == (20, 10, 80, 50)
    assert drawable(dataset, 1, str(tmp_path), follow_links=False)[2] is None


def test_points_that_came_from_a_mask_are_drawn(found, tmp_path):
    square = [[20, 10, 80, 10, 80, 50, 20, 50]]
    dataset = found(record(1, extreme_points=..., segmentation=square))
    _, points, _ = drawable(dataset, 0, str(tmp_path), follow_links=False)
    np.testing.assert_array_equal(points[:, 1].min(), 10)


@pytest.mark.parametrize("name", ["../b.png", "/etc/passwd", "http://x/b.png", None, 3])
def test_an_unsafe_file_is_not_drawn(found, tmp_path, name):
    image = {"id": 3, "file_name": name, "width": 9, "height": 9}
    dataset = found(record(1, image_id=3), images=[image])
    assert drawable(dataset, 0, str(tmp_path), follow_links=False) is None


@pytest.mark.parametrize("junk", ["no record", 5, None, {}, {"image_id": []}])
def test_a_record_that_is_none_has_nothing_to_draw(found, tmp_path, junk):
    dataset = found(junk, record(2))
    assert drawable(dataset, 0, str(tmp_path), follow_links=False) is None
    assert isinstance(record_at(dataset.source, 0), dict)


def test_every_remark_has_a_meaning():
    assert {*FLAG_CODES.values(), *IMAGE_REMARKS.values()} <= CODES.keys()
