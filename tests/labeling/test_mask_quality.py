import numpy as np
import pytest

from exits_jax.labeling import mask_quality


def two_squares():
    """Two 10x10 squares with a gap of five columns, and one stray pixel."""
    mask = np.zeros((40, 60), bool)
    mask[10:20, 10:20] = mask[10:20, 25:35] = True
    mask[35, 55] = True
    return mask


def test_a_click_is_hit_within_the_tolerance_only():
    points = np.array([[15, 7], [8, 15], [15, 22.5], [36, 15]], np.float32)
    assert mask_quality.click_hits(two_squares(), points, 2) == (0, 1, 0, 1)
    assert mask_quality.click_hits(two_squares(), points, 3.5) == (1, 1, 1, 1)


def test_a_click_on_the_mask_is_hit_without_tolerance():
    assert mask_quality.click_hits(two_squares(), np.array([[10, 19]]), 0) == (1,)


def test_clicks_beyond_the_image_are_no_hit():
    points = np.array([[-9.0, 15], [80, 15], [15, -9], [15, 60]])
    assert mask_quality.click_hits(two_squares(), points, 3) == (0, 0, 0, 0)


def test_no_clicks_give_no_hits():
    assert mask_quality.click_hits(two_squares(), None, 3) is None


def test_tightness_is_the_iou_of_the_boxes():
    mask = np.zeros((40, 60), bool)
    mask[10:20, 10:20] = True
    assert mask_quality.box_tightness(mask, (10.0, 10.0, 20.0, 20.0)) == 1
    assert mask_quality.box_tightness(mask, (15.0, 10.0, 25.0, 20.0)) == 50 / 150
    assert mask_quality.box_tightness(mask, (30.0, 30.0, 35.0, 35.0)) == 0


def test_small_parts_are_not_counted():
    assert mask_quality.count_parts(two_squares()) == 2
    assert mask_quality.count_parts(two_squares(), min_fraction=0) == 3


def test_diagonal_neighbours_are_one_part():
    assert mask_quality.count_parts(np.eye(6, dtype=bool)) == 1


def test_confidence_is_the_mean_probability_within_the_mask():
    logits = np.full((4, 4), -np.inf, np.float32)
    logits[0, :3] = [0, np.log(3), 1000]
    mask = np.zeros((4, 4), bool)
    mask[0] = True
    assert mask_quality.confidence(logits, mask) == pytest.approx(
        (0.5 + 0.75 + 1 + 0) / 4
    )


def test_an_empty_mask_has_no_quality():
    empty = np.zeros((4, 4), bool)
    assert mask_quality.box_tightness(empty, (0.0, 0.0, 4.0, 4.0)) == 0
    assert mask_quality.count_parts(empty) == 0
    assert mask_quality.confidence(np.zeros((4, 4)), empty) == 0
    assert mask_quality.click_hits(empty, np.array([[1, 1]]), 9) == (0,)


def test_a_part_of_the_image_has_the_quality_of_the_whole():
    mask, points = two_squares(), np.array([[15.3, 7], [8, 15], [15, 22.5], [36, 15]])
    part, origin, box = mask[8:38, 9:58], (9, 8), (9.2, 10.0, 36.7, 20.5)
    whole = (
        mask_quality.click_hits(mask, points, 2),
        mask_quality.box_tightness(mask, box),
    )
    assert whole == (
        mask_quality.click_hits(part, points, 2, origin=origin),
        mask_quality.box_tightness(part, box, origin=origin),
    )
