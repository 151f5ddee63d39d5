import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exits_jax.ops.ridge import ridge_probability
from tests.support import reference

NUM_CELLS, DIM = 25, 6
OPTIONS = {"shrinkage": 3.0, "num_rounds": 3, "keep": 0.5}
INSIDE = np.isin(np.arange(NUM_CELLS), [6, 7, 8, 11, 12, 13, 16, 17, 18])
NOT_INSIDE = ~INSIDE


def drawn(seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(NUM_CELLS, DIM)).astype(np.float32)
    return features, rng.uniform(size=NUM_CELLS).astype(np.float32)


def refined(features, probability, inside=INSIDE, outside=NOT_INSIDE, **options):
    rows = (jnp.asarray(x)[None] for x in (features, probability, inside, outside))
    return np.asarray(ridge_probability(*rows, **(OPTIONS | options))[0])


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    shrinkage=st.sampled_from([0.1, 1.0, 3.0, 30.0]),
    num_rounds=st.integers(0, 4),
    keep=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_matches_least_squares_with_a_free_offset(seed, shrinkage, num_rounds, keep):
    options = {"shrinkage": shrinkage, "num_rounds": num_rounds, "keep": keep}
    features, probability = drawn(seed)
    outside = NOT_INSIDE & (np.arange(NUM_CELLS) % 5 > 0)
    expected = reference.ridge(features, probability, INSIDE, outside, **options)
    actual = refined(features, probability, outside=outside, **options)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_cells_that_look_alike_come_to_be_labeled_alike():
    features = np.where(np.arange(NUM_CELLS) % 2, 1.0, -1.0)[:, None] * np.eye(1, DIM)
    probability = np.where(np.arange(NUM_CELLS) % 2, 0.9, 0.1)
    probability[12] = 0.9  # looks like the cells of 0.1
    nothing = np.zeros(NUM_CELLS, bool)
    found = refined(
        features.astype(np.float32),
        probability.astype(np.float32),
        outside=nothing,
        shrinkage=0.1,
        keep=0.2,
    )
    assert found[11] > 0.8 and found[12] < 0.5


def test_cells_that_are_not_inside_get_nothing():
    np.testing.assert_array_equal(refined(*drawn())[NOT_INSIDE], 0)


def test_a_probability_that_is_kept_whole_stays():
    features, probability = drawn()
    found = refined(features, probability, keep=1.0)
    np.testing.assert_array_equal(found[INSIDE], probability[INSIDE])


def test_without_background_the_cells_inside_are_told_apart_by_themselves():
    nothing = np.zeros(NUM_CELLS, bool)
    features, probability = drawn()
    found = refined(features, probability, outside=nothing)
    expected = reference.ridge(
        features, probability, INSIDE, NOT_INSIDE & nothing, **OPTIONS
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("inside", [np.zeros(NUM_CELLS, bool), np.eye(NUM_CELLS)[12]])
def test_one_cell_or_none_is_finite(inside):
    inside = inside.astype(bool)
    assert np.isfinite(refined(*drawn(), inside=inside, outside=~inside)).all()


def test_features_that_are_all_the_same_are_finite():
    _, probability = drawn()
    assert np.isfinite(refined(np.ones((NUM_CELLS, DIM)), probability)).all()


def test_a_crop_does_not_depend_on_those_beside_it():
    rows = [(*drawn(seed), np.roll(INSIDE, seed)) for seed in range(3)]
    features, probability, inside = (
        jnp.asarray(np.stack(column)) for column in zip(*rows, strict=True)
    )
    both = ridge_probability(features, probability, inside, ~inside, **OPTIONS)
    for row, (*data, mask) in zip(both, rows, strict=True):
        alone = refined(*data, inside=mask, outside=~mask)
        np.testing.assert_allclose(row, alone, rtol=1e-5, atol=1e-6)
