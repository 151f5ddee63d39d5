import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from exits_jax.evaluation import reliability
from exits_jax.evaluation.reliability import Scored

share = st.floats(0, 1, width=32)


@st.composite
def masks(draw):
    """Scores, of which some are the same, and IoU of up to 60 masks."""
    count = draw(st.integers(1, 60))
    scores = draw(st.lists(share | st.sampled_from([0.5, 0.9]), **_of(count)))
    return np.array(scores), np.array(draw(st.lists(share, **_of(count))))


def _of(count):
    return {"min_size": count, "max_size": count}


def rising(count=400, *, seed=0):
    """Scores above 0.9 whose IoU spans all of [0, 1], with noise."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.9, 1.0, count)
    noise = rng.normal(0, 0.05, count)
    return scores, np.clip(10 * (scores - 0.9) + noise, 0, 1)


def objects(scores, ious, *, per_image=2):
    pairs = zip(scores.tolist(), ious.tolist(), strict=True)
    return [
        Scored(k // per_image, iou, score, 1.0, 1.0)
        for k, (score, iou) in enumerate(pairs)
    ]


def test_the_table_has_ten_bins_of_equal_counts_by_rising_score():
    table = reliability.reliability_table(*rising())
    assert [each["count"] for each in table] == 10 * [40]
    assert np.all(np.diff([each["score"] for each in table]) > 0)


def test_the_means_of_a_bin_are_those_of_its_masks():
    scores = np.repeat([0.9, 0.2], 20)
    ious = np.concatenate([np.full(20, 0.7), np.tile([0.1, 0.3], 10)])
    low, high = reliability.reliability_table(scores, ious)
    assert low == pytest.approx({"score": 0.2, "iou": 0.2, "count": 20})
    assert high == pytest.approx({"score": 0.9, "iou": 0.7, "count": 20})


@settings(deadline=None)
@given(found=masks())
def test_every_mask_is_in_one_bin(found):
    table = reliability.reliability_table(*found)
    assert sum(each["count"] for each in table) == len(found[0])


@settings(deadline=None)
@given(found=masks(), seed=st.integers(0, 9))
def test_the_order_of_the_masks_changes_no_bin(found, seed):
    scores, ious = found
    order = np.random.default_rng(seed).permutation(len(scores))
    table = reliability.reliability_table(scores, ious)
    again = reliability.reliability_table(scores[order], ious[order])
    assert [list(each.values()) for each in again] == [
        pytest.approx(list(each.values())) for each in table
    ]


def test_few_masks_make_few_bins():
    scores, ious = rising(59)
    assert len(reliability.reliability_table(scores, ious)) == 2


def test_scores_that_are_the_iou_have_no_calibration_error():
    scores, _ = rising()
    assert reliability.calibration_error(scores, scores) == pytest.approx(0)


def test_scores_that_are_always_too_high_are_off_by_as_much():
    scores, _ = rising()
    error = reliability.calibration_error(scores, scores - 0.25)
    assert error == pytest.approx(0.25)


@settings(deadline=None)
@given(found=masks())
def test_the_curve_is_the_isotonic_regression(found):
    scores, ious = found
    at, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(group, ious) / counts
    expected = isotonic_regression(means, weights=counts).x
    actual = reliability.fit(scores, ious)(at)
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)


@settings(deadline=None)
@given(found=masks())
def test_a_higher_score_never_promises_less(found):
    curve = reliability.fit(*found)
    assert np.all(np.diff(curve(np.linspace(0, 1, 200))) >= -1e-12)


def test_held_out_values_do_not_know_the_mask_itself():
    scores, ious = rising()
    images = [k // 2 for k in range(len(scores))]
    before = reliability.held_out(scores, ious, images)
    ious[:2] = 0.0  # both objects of the first image
    after = reliability.held_out(scores, ious, images)
    np.testing.assert_array_equal(before[:2], after[:2])
    assert np.any(before != after)


def test_calibration_of_one_image_cannot_be_held_out():
    scores, ious = rising(30)
    assert reliability.held_out(scores, ious, 30 * [7]) is None


def test_calibrated_scores_are_nearer_to_the_iou():
    found = reliability.reliability(objects(*rising()))
    assert found["calibration_error"] > 0.3
    assert found["calibrated_error"] < 0.05


def test_scores_that_say_nothing_are_not_calibrated_to_say_something():
    rng = np.random.default_rng(1)
    scores, ious = rng.uniform(size=(2, 2000))
    expected = reliability.held_out(scores, ious, list(range(2000)))
    assert np.std(expected) < 0.1 < np.std(ious)


def test_masks_below_the_limit_are_bad():
    scores, ious = rising()
    found = reliability.reliability(objects(scores, ious), bad_iou=0.75)["bad"]
    assert (found["iou_below"], found["count"]) == (0.75, np.sum(ious < 0.75))


def test_objects_without_a_mask_are_counted_and_change_nothing_else():
    known = objects(*rising())
    alone = reliability.reliability(known)
    found = reliability.reliability([*known, Scored("a", 0.0, None)])
    assert alone.pop("without_mask") == 0 and found.pop("without_mask") == 1
    assert found == alone


def test_without_any_mask_nothing_is_known():
    found = reliability.reliability([Scored(1, 0.0, None)])
    assert (found["count"], found["table"], found["bad"]["count"]) == (0, [], 0)
    errors = ("mean_score", "mean_iou", "calibration_error", "calibrated_error")
    assert {found[name] for name in errors} == {None}


def test_all_of_it_is_json():
    found = reliability.reliability(objects(*rising()))
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_record_gives_the_share_of_its_clicks():
    record = {"score": 0.9, "click_hit": [1, 0, 1, 1], "box_iou": 0.8}
    assert Scored.of_record(4, 0.6, record) == Scored(4, 0.6, 0.9, 0.75, 0.8)


def test_a_record_of_a_box_alone_has_no_share_of_clicks():
    record = {"score": 0.0, "click_hit": None, "box_iou": 1.0}
    assert Scored.of_record(4, 0.6, record) == Scored(4, 0.6, 0.0, None, 1.0)
