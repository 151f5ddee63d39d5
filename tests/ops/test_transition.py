import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exits_jax.ops.transition import (
    sinkhorn_residual,
    sinkhorn_scales,
    transition_matrix,
)
from tests.support import reference

similarities = hnp.arrays(
    np.float32, (2, 6, 6), elements=st.floats(0.125, 1.0, width=32)
)
few = settings(deadline=None, max_examples=20)
compiled = jax.jit(transition_matrix, static_argnames="num_rounds")


def attention(num_points, sharpness, seed=0):
    """A softmax like that of a transformer, float32 [1, P, P]."""
    scores = np.random.default_rng(seed).normal(size=(1, num_points, num_points))
    return jax.nn.softmax(jnp.asarray(sharpness * scores, jnp.float32), axis=-1)


@pytest.mark.parametrize("num_rounds", [1, 3, 10])
@pytest.mark.parametrize("sharpness", [1.0, 4.0])
def test_matches_the_reference(num_rounds, sharpness):
    similarity = attention(9, sharpness)
    actual = transition_matrix(similarity, num_rounds=num_rounds)
    expected = reference.transition(similarity[0], num_rounds)
    np.testing.assert_allclose(actual[0], expected, rtol=2e-5, atol=1e-8)


@few
@given(similarity=similarities)
def test_is_symmetric_with_rows_that_sum_to_one(similarity):
    transition = compiled(jnp.asarray(similarity), num_rounds=30)
    np.testing.assert_allclose(transition, transition.mT, rtol=1e-6)
    np.testing.assert_allclose(transition.sum(axis=2), 1, rtol=1e-5)
    assert (transition >= 0).all()


@few
@given(similarity=similarities, scale=st.sampled_from([1e-6, 1.0, 1e6]))
def test_does_not_depend_on_the_scale_of_the_similarities(similarity, scale):
    similarity = jnp.asarray(similarity)
    np.testing.assert_allclose(
        compiled(similarity * scale),
        compiled(similarity),
        rtol=1e-4,
    )


def test_the_last_division_of_a_round_is_by_rows():
    similarity = attention(6, 3.0)
    rows, columns = sinkhorn_scales(similarity, num_rounds=1)
    scaled = rows[:, :, None] * similarity * columns[:, None, :]
    np.testing.assert_allclose(scaled.sum(axis=2), 1, rtol=1e-6)
    assert np.abs(scaled.sum(axis=1) - 1).max() > 1e-3


def test_more_rounds_leave_a_smaller_residual():
    residual = lambda rounds: sinkhorn_residual(
        transition_matrix(attention(16, 3.0), num_rounds=rounds)
    )
    assert residual(30)[0] < residual(3)[0] / 2
    assert residual(3)[0] > 1e-6


def test_residual_is_the_largest_error_of_a_row():
    matrix = jnp.array([[[0.5, 0.5], [0.25, 0.5]]])
    np.testing.assert_allclose(sinkhorn_residual(matrix), [0.25])


def test_attention_with_almost_no_way_into_a_point_stays_finite():
    # A sink takes nearly all attention, so the other columns nearly vanish.
    similarity = jnp.full((1, 8, 8), 1e-25).at[:, :, 0].set(1.0)
    transition = transition_matrix(similarity)
    assert jnp.isfinite(transition).all()
    np.testing.assert_allclose(transition.sum(axis=2), 1, rtol=1e-3)


def test_compiled_equals_eager():
    similarity = attention(16, 3.0)
    np.testing.assert_allclose(
        compiled(similarity), transition_matrix(similarity), rtol=1e-5
    )


def test_half_precision_similarities_are_computed_in_float32():
    similarity = attention(8, 1.0).astype(jnp.bfloat16)
    actual = transition_matrix(similarity)
    assert actual.dtype == jnp.float32
    expected = transition_matrix(similarity.astype(jnp.float32))
    np.testing.assert_array_equal(actual, expected)


def test_rejects_fewer_than_one_round():
    with pytest.raises(ValueError, match="num_rounds must be at least 1, got 0"):
        transition_matrix(jnp.ones((1, 2, 2)), num_rounds=0)
