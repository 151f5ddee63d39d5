import json

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from exits_jax.data.extreme_points import (
    clean_points,
    json_points,
    points_of_record,
)
from exits_jax.data.records import AnnotationError

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
