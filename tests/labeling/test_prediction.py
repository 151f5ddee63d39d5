import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exits_jax.data import rle
from exits_jax.data.crops import Window
from exits_jax.data.records import Instance
from exits_jax.evaluation.baselines import box_mask
from exits_jax.labeling import mask_quality
from exits_jax.labeling.prediction import Prediction

SIZE = (40, 60)  # height, width


def item(box, points=None):
    return Instance(7, 1, 1, "", SIZE, points, box, False, ("box_only",))


def drawn(seed, box, points=None, threshold=0.5):
    """Random logits of a crop with a margin around the box."""
    x0, y0, x1, y1 = (int(edge) for edge in box)
    window = Window(x0 - 4, y0 - 3, x1 + 5, y1 + 6)
    logits = np.random.default_rng(seed).normal(size=(12, 12)).astype(np.float32)
    return Prediction.of_crop(logits, window, item(box, points), threshold)


boxes = st.tuples(
    *[st.floats(0, 25, width=32)] * 2, *[st.floats(3, 15, width=32)] * 2
).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


@given(st.integers(0, 99), boxes)
def test_what_is_known_of_a_mask_is_that_of_the_whole_image(seed, box):
    points = np.array([[box[0] + 1, box[1]], [box[0], box[1] + 1]] * 2, np.float32)
    found = drawn(seed, box, points)
    mask = found.mask
    assert found.rle() == rle.encode(mask)
    assert found.box_iou == mask_quality.box_tightness(mask, box)
    assert found.num_parts == mask_quality.count_parts(mask)
    tolerance = mask_quality.click_tolerance(box)
    assert found.click_hit == mask_quality.click_hits(mask, points, tolerance)
    assert not (mask & ~box_mask(box, SIZE)).any()


def test_another_threshold_needs_no_model():
    found = drawn(0, (5.0, 5.0, 30.0, 30.0))
    masks = [found.at(threshold).part.sum() for threshold in (0.2, 0.5, 0.8)]
    assert masks[0] > masks[1] > masks[2]
    assert found.at(0.2).at(0.5).rle() == found.rle()


def test_a_threshold_is_a_probability():
    with pytest.raises(ValueError, match=r"1\.5; it must lie in \(0, 1\)"):
        drawn(0, (5.0, 5.0, 30.0, 30.0)).at(1.5)


def test_logits_that_are_no_numbers_are_no_empty_mask():
    """As overflowing activations give them; every comparison with them is false."""
    logits = np.full((12, 12), np.nan, np.float32)
    with pytest.raises(FloatingPointError, match="Annotation 7: what the model says"):
        Prediction.of_crop(logits, Window(0, 0, 40, 40), item((5, 5, 30, 30)), 0.5)


def test_nothing_above_the_threshold_is_flagged_and_has_no_score():
    found = drawn(0, (5.0, 5.0, 30.0, 30.0), threshold=0.999)
    assert found.is_empty and found.score == 0
    assert found.flags == ("box_only", "empty")
    assert not found.mask.any()


def test_a_filled_box_stands_in_for_an_empty_mask():
    box = (5.2, 5.0, 30.0, 29.5)
    found = drawn(0, box, threshold=0.999).filled()
    np.testing.assert_array_equal(found.mask, box_mask(box, SIZE))
    assert found.score == 0 and found.flags == ("box_only", "filled_box")


def test_a_mask_that_fills_its_box_is_flagged():
    window, box = Window(0, 0, 20, 20), (2.0, 2.0, 18.0, 18.0)
    logits = np.ones((4, 4), np.float32)
    found = Prediction.of_crop(logits, window, item(box), 0.5)
    assert found.flags == ("box_only", "covers_box")
