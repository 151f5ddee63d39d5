import copy
import json

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from exits_jax.data.annotations import AnnotationError
from exits_jax.data.extreme_points import (
    clean_points,
    decode_mask,
    json_points,
    points_of_record,
    prepare_annotations,
)

masks = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))).filter(
    np.any
)


# The clean rule


@settings(deadline=None, max_examples=100)
@given(mask=masks)
def test_clean_points_are_pixels_on_the_four_sides_of_the_object(mask):
    points = clean_points(mask).astype(int)
    rows, columns = np.nonzero(mask)
    assert mask[points[:, 1], points[:, 0]].all()
    assert points[0, 1] == rows.min()
    assert points[1, 0] == columns.min()
    assert points[2, 1] == rows.max()
    assert points[3, 0] == columns.max()


@settings(deadline=None, max_examples=50)
@given(mask=masks)
def test_clean_points_of_the_transposed_mask_are_transposed(mask):
    expected = clean_points(mask)[[1, 0, 3, 2], ::-1]
    np.testing.assert_array_equal(clean_points(mask.T), expected)


@settings(deadline=None, max_examples=50)
@given(mask=masks, right=st.integers(0, 9), down=st.integers(0, 9))
def test_clean_points_move_with_the_object(mask, right, down):
    moved = np.pad(mask, ((down, 3), (right, 2)))
    expected = clean_points(mask) + np.array([right, down])
    np.testing.assert_array_equal(clean_points(moved), expected)


@settings(deadline=None, max_examples=100)
@given(mask=masks)
def test_mirrored_object_has_left_and_right_swapped(mask):
    points = clean_points(mask)
    mirrored = clean_points(mask[:, ::-1])
    mirrored[:, 0] = mask.shape[1] - 1 - mirrored[:, 0]
    np.testing.assert_array_equal(mirrored[[3, 1]], points[[1, 3]])
    np.testing.assert_array_equal(mirrored[[0, 2], 1], points[[0, 2], 1])
    for side in (0, 2):  # of two equally near pixels, the other one
        row = np.flatnonzero(mask[int(points[side, 1])])
        middle = (row[0] + row[-1]) / 2
        off = abs(points[side, 0] - middle)
        assert abs(mirrored[side, 0] - middle) == off


@settings(deadline=None, max_examples=50)
@given(mask=masks)
def test_object_upside_down_has_top_and_bottom_swapped(mask):
    points = clean_points(mask)
    turned = clean_points(mask[::-1])
    turned[:, 1] = mask.shape[0] - 1 - turned[:, 1]
    np.testing.assert_array_equal(turned[[2, 0]], points[[0, 2]])


def test_object_of_one_pixel_is_all_its_points():
    mask = np.zeros((5, 6), bool)
    mask[3, 4] = True
    assert clean_points(mask).tolist() == [[4, 3]] * 4


@pytest.mark.parametrize(("length", "middle"), [(1, 0), (2, 0), (5, 2), (6, 2)])
def test_line_has_its_ends_and_its_middle(length, middle):
    line = np.ones((1, length), bool)
    ends = [[middle, 0], [0, 0], [middle, 0], [length - 1, 0]]
    assert clean_points(line).tolist() == ends
    upright = [[0, 0], [0, middle], [0, length - 1], [0, middle]]
    assert clean_points(line.T).tolist() == upright


def test_clean_point_is_the_pixel_nearest_to_the_middle_of_its_row():
    mask = np.zeros((3, 12), bool)
    mask[0, [0, 1, 2, 4, 10]] = True  # middle 5: pixel 4
    mask[2, [1, 4, 6, 9]] = True  # middle 5: pixels 4 and 6 are as near
    points = clean_points(mask)
    assert points[0].tolist() == [4, 0]
    assert points[2].tolist() == [4, 2]


def test_empty_mask_has_no_points():
    with pytest.raises(AnnotationError, match="its mask is empty") as caught:
        clean_points(np.zeros((3, 3), bool))
    assert caught.value.problems[0].code == "E213"


# Single records

SQUARE = [[10, 10, 10, 61, 61, 61, 61, 10]]
IMAGE = {"id": 7, "width": 100, "height": 80}


def test_record_gives_whole_points_inside_the_image():
    record = {"id": 1, "image_id": 7, "segmentation": SQUARE}
    points = points_of_record(record, IMAGE, mode="extremenet")
    assert points.dtype == np.float32
    assert json_points(points) == [[35, 10], [10, 35], [35, 61], [61, 10]]


@pytest.mark.parametrize(
    "change",
    [{"iscrowd": 1}, {"extreme_points": [[1, 0]]}, {"segmentation": []}],
)
def test_record_that_needs_no_points_gives_none(change):
    record = {"id": 1, "image_id": 7, "segmentation": SQUARE, **change}
    assert points_of_record(record, IMAGE, mode="clean") is None


def test_record_without_its_image_is_refused():
    record = {"id": 1, "image_id": 8, "segmentation": SQUARE}
    with pytest.raises(AnnotationError, match="image_id 8 is not among") as caught:
        points_of_record(record, None, mode="clean")
    assert caught.value.problems[0].code == "E107"


def test_unknown_mode_is_refused_for_a_record_too():
    with pytest.raises(ValueError, match="choose one of extremenet, clean"):
        points_of_record({}, IMAGE, mode="x")


def test_points_in_json_are_whole_numbers_or_have_two_decimals():
    points = np.array([[1, 2.5], [0.1, 3.14159]], np.float32)
    assert json.dumps(json_points(points)) == "[[1, 2.5], [0.1, 3.14]]"


# Whole files


def instances(*records):
    return {
        "info": {"year": 2017},
        "images": [{"id": 7, "width": 100, "height": 80}, {"id": 8}],
        "annotations": [{"image_id": 7, **record} for record in records],
        "categories": [{"id": 3}],
    }


def prepare(*records, mode="extremenet"):
    output, problems = prepare_annotations(
        instances(*records), mode=mode, name="train.json"
    )
    return output["annotations"], problems


def test_mask_is_replaced_by_points_and_all_else_is_kept():
    (record,), problems = prepare(
        {"id": 1, "segmentation": SQUARE, "bbox": [1, 2, 3, 4], "area": 9.5, "x": "y"}
    )
    assert record == {
        "image_id": 7,
        "id": 1,
        "bbox": [1, 2, 3, 4],
        "area": 9.5,
        "x": "y",
        "extreme_points": [[35, 10], [10, 35], [35, 61], [61, 10]],
    }
    assert problems == []


def test_clean_mode_takes_pixels_of_the_mask():
    (record,), _ = prepare({"id": 1, "segmentation": SQUARE}, mode="clean")
    mask = decode_mask(SQUARE, 80, 100)
    assert all(mask[y, x] for x, y in record["extreme_points"])


def test_source_is_not_changed_and_its_other_parts_are_passed_on():
    source = instances({"id": 1, "segmentation": SQUARE})
    before = copy.deepcopy(source)
    output, _ = prepare_annotations(source, mode="clean", name="train.json")
    assert source == before
    assert output["info"] == {"year": 2017}
    assert output["images"] == before["images"]


def test_points_that_exist_are_kept():
    points = [[1, 0], [0, 1], [1, 2], [2, 1]]
    (record,), _ = prepare({"id": 1, "segmentation": SQUARE, "extreme_points": points})
    assert record["extreme_points"] == points
    assert "segmentation" not in record


def test_crowd_keeps_its_mark_and_gets_no_points():
    rle = {"size": [80, 100], "counts": [0, 8000]}
    (record,), problems = prepare(
        {"id": 1, "iscrowd": 1, "segmentation": rle, "bbox": [0, 0, 9, 9]}
    )
    assert record == {"image_id": 7, "id": 1, "iscrowd": 1, "bbox": [0, 0, 9, 9]}
    assert problems == []


@pytest.mark.parametrize("segmentation", [None, [], {}])
def test_record_without_mask_keeps_its_box(segmentation):
    records, problems = prepare(
        {"id": 1, "segmentation": segmentation, "bbox": [1, 2, 3, 4]}
    )
    assert records == [{"image_id": 7, "id": 1, "bbox": [1, 2, 3, 4]}]
    assert problems == []


def test_record_with_a_bad_mask_keeps_its_box_and_is_reported():
    records, (problem,) = prepare(
        {"id": 1, "segmentation": [[1, 2, 3]], "bbox": [1, 2, 3, 4]}
    )
    assert records == [{"image_id": 7, "id": 1, "bbox": [1, 2, 3, 4]}]
    assert problem[:2] == (1, "E212")
    assert "has 3 numbers" in problem.message
    assert "It keeps only its box." in problem.message


def test_record_with_only_a_bad_mask_is_left_out_and_reported():
    records, (problem,) = prepare({"id": "a", "segmentation": [[1, 2, 3]]})
    assert records == []
    assert problem[:2] == ("a", "E212")
    assert "It is left out." in problem.message


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ({"id": 1}, "E207"),
        ({"id": 1, "iscrowd": 1, "segmentation": SQUARE}, "E207"),
        ({"id": 1, "image_id": 9, "segmentation": SQUARE}, "E107"),
        ({"id": 1, "image_id": 8, "segmentation": SQUARE}, "W109"),
        ({"id": 1, "segmentation": {"size": [2, 2], "counts": [0, 4]}}, "E211"),
        ({"id": 1, "segmentation": [[200, 1, 210, 1, 210, 9]]}, "E213"),
    ],
)
@pytest.mark.parametrize("mode", ["extremenet", "clean"])
def test_no_record_disappears_without_a_word(record, code, mode):
    records, (problem,) = prepare(record, mode=mode)
    assert records == []
    assert problem[:2] == (1, code)


def test_entry_that_is_no_object_is_reported():
    source = {**instances(), "annotations": [5]}
    output, (problem,) = prepare_annotations(source, mode="clean", name="train.json")
    assert output["annotations"] == []
    assert problem.code == "E102"


def test_unknown_mode_lists_the_choices():
    with pytest.raises(ValueError, match="'x'; choose one of extremenet, clean"):
        prepare({"id": 1}, mode="x")


def test_source_without_images_is_refused():
    with pytest.raises(AnnotationError, match="train.json: `images` is missing"):
        prepare_annotations({"annotations": []}, mode="clean", name="train.json")
