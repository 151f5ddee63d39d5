from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exits_jax.evaluation import bad_masks

few = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])  # so that there are ties
judged_masks = st.lists(st.tuples(few, st.booleans()), min_size=1, max_size=25)


def arrays(found):
    values, is_bad = zip(*found, strict=True)
    return np.array(values), np.array(is_bad)


@settings(deadline=None)
@given(found=judged_masks)
def test_the_area_is_the_share_of_pairs_in_which_the_bad_mask_is_lower(found):
    values, is_bad = arrays(found)
    pairs = [
        float(bad < good) + 0.5 * float(bad == good)
        for bad, good in product(values[is_bad], values[~is_bad])
    ]
    area = bad_masks.area_under_curve(values, is_bad)
    assert area == (pytest.approx(np.mean(pairs)) if pairs else None)


@settings(deadline=None)
@given(found=judged_masks, seed=st.integers(0, 9))
def test_the_order_of_the_masks_decides_nothing(found, seed):
    values, is_bad = arrays(found)
    order = np.random.default_rng(seed).permutation(len(values))
    assert bad_masks.worst_tenth(values, is_bad) == pytest.approx(
        bad_masks.worst_tenth(values[order], is_bad[order])
    )


def test_the_worst_tenth_holds_the_lowest_values():
    values = np.arange(30) / 30
    is_bad = np.isin(np.arange(30), (0, 2, 20))
    assert bad_masks.worst_tenth(values, is_bad) == (3, 2.0)


def test_a_tenth_of_few_masks_is_one():
    is_bad = np.array([False, True, False])
    assert bad_masks.worst_tenth(np.array([0.3, 0.1, 0.2]), is_bad) == (1, 1.0)


def test_a_value_that_all_masks_share_finds_as_many_as_chance():
    is_bad = np.arange(50) < 10
    found = bad_masks.judged(np.ones(50), is_bad)
    assert found == {
        "count": 50,
        "num_values": 1,
        "auc": 0.5,
        "bad_in_worst_tenth": pytest.approx(0.2),
        "found_in_worst_tenth": pytest.approx(0.1),
    }


@pytest.mark.parametrize("is_bad", [np.zeros(9, bool), np.ones(9, bool)])
def test_where_no_mask_is_bad_or_all_are_there_is_nothing_to_find(is_bad):
    signs = {name: np.arange(9.0) for name in bad_masks.SIGNS}
    found = bad_masks.found(signs, is_bad)
    assert found.pop("count") == is_bad.sum()
    assert set(found.values()) == {None}


def test_masks_without_a_value_take_no_part():
    values = np.array([0.1, np.nan, 0.9, np.nan])
    is_bad = np.array([True, False, False, True])
    found = bad_masks.judged(values, is_bad)
    assert found["count"] == 2 and found["auc"] == 1.0


def two_halves():
    """Either sign sees one half of the bad masks, and nothing of the other."""
    rng = np.random.default_rng(0)
    first, second = rng.uniform(0.5, 1.0, (2, 100))
    first[:10], second[10:20] = first[:10] - 0.5, second[10:20] - 0.5
    return first, second, np.arange(100) < 20


def test_two_signs_that_complete_each_other_are_joined():
    first, second, is_bad = two_halves()
    found = bad_masks.found({"first": first, "second": second}, is_bad)
    both = found["lower_of_two"]
    assert both["of"] == ["first", "second"]
    assert both["auc"] > max(found["first"]["auc"], found["second"]["auc"])


def test_a_sign_that_adds_nothing_is_not_joined():
    first, _, is_bad = two_halves()
    signs = {"first": first, "same": np.ones(100)}
    assert bad_masks.found(signs, is_bad)["lower_of_two"] is None


def test_a_pair_that_a_third_sign_outdoes_is_not_joined():
    first, second, is_bad = two_halves()
    signs = {"first": first, "second": second, "best": 1.0 - is_bad}
    assert bad_masks.found(signs, is_bad)["lower_of_two"] is None


def test_a_place_is_the_share_of_masks_that_are_no_better():
    first, second = np.array([0.1, 0.2, 0.2, 0.9]), np.array([4.0, 3.0, 2.0, 1.0])
    places = bad_masks.lower_of_two(first, second)
    np.testing.assert_array_equal(places, [0.25, 0.75, 0.5, 0.25])
