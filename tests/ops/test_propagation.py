import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exits_jax.ops.propagation import (
    converged_scores,
    converged_transition,
    propagation_scores,
    transition_power,
)
from tests.support import reference

NUM_POINTS = 6
few = settings(deadline=None, max_examples=20)


@st.composite
def walks(draw):
    """A symmetric doubly stochastic matrix and one start with a member or more."""
    similarity = draw(
        hnp.arrays(
            np.float32,
            (NUM_POINTS, NUM_POINTS),
            elements=st.floats(0.125, 1.0, width=32),
        )
    )
    members = draw(st.lists(st.integers(0, NUM_POINTS - 1), min_size=1, max_size=4))
    return reference.transition(similarity, 30), members


def start_of(*sets):
    """[1, s, P], each set a list of points with repetitions."""
    start = np.zeros((1, len(sets), NUM_POINTS), np.float32)
    for row, members in enumerate(sets):
        for member in members:
            start[0, row, member] += 1 / len(members)
    return jnp.asarray(start)


def as_batch(matrix):
    return jnp.asarray(matrix[None], jnp.float32)


@few
@given(walk=walks(), num_hops=st.integers(1, 4))
def test_a_carried_vector_matches_the_matrix_power(walk, num_hops):
    matrix, members = walk
    actual = propagation_scores(as_batch(matrix), start_of(members), num_hops=num_hops)
    expected = reference.propagation_scores(matrix, members, num_hops)
    np.testing.assert_allclose(actual[0, 0], expected, rtol=1e-5, atol=1e-7)


@few
@given(walk=walks(), num_hops=st.integers(1, 4))
def test_scores_are_a_distribution_over_points(walk, num_hops):
    matrix, members = walk
    scores = propagation_scores(as_batch(matrix), start_of(members), num_hops=num_hops)
    assert (scores >= 0).all()
    np.testing.assert_allclose(scores.sum(axis=-1), 1, rtol=1e-5)


@few
@given(walk=walks(), order=st.permutations(range(NUM_POINTS)))
def test_relabelling_the_points_permutes_the_scores(walk, order):
    matrix, members = walk
    order = np.array(order)
    start = start_of(members)
    scores = propagation_scores(as_batch(matrix), start, num_hops=3)
    permuted = propagation_scores(
        as_batch(matrix[np.ix_(order, order)]), start[:, :, order], num_hops=3
    )
    np.testing.assert_allclose(permuted, scores[:, :, order], rtol=1e-5, atol=1e-7)


@few
@given(walk=walks(), blend=st.sampled_from([0.0, 0.25, 0.5]))
def test_unlimited_hops_match_the_neumann_series(walk, blend):
    matrix, members = walk
    expected = np.zeros(NUM_POINTS)
    for member in members:
        expected += reference.converged(matrix, blend)[member] / len(members)
    actual = converged_scores(as_batch(matrix), start_of(members), blend=blend)
    np.testing.assert_allclose(actual[0, 0], expected, rtol=2e-5, atol=1e-7)


@few
@given(walk=walks())
def test_scores_of_unlimited_hops_are_a_distribution_over_points(walk):
    matrix, members = walk
    scores = converged_scores(as_batch(matrix), start_of(members))
    np.testing.assert_allclose(scores.sum(axis=-1), 1, rtol=1e-5)


def test_the_direction_of_a_hop_is_from_row_to_column():
    one_way = jnp.array([[[0.0, 1.0], [0.0, 1.0]]])
    scores = propagation_scores(one_way, jnp.array([[[1.0, 0.0]]]), num_hops=1)
    np.testing.assert_array_equal(scores, [[[0, 1]]])


def test_two_sets_share_a_pass_without_mixing():
    matrix = as_batch(reference.transition(np.eye(NUM_POINTS) + 0.2, 10))
    both = propagation_scores(matrix, start_of([0], [1, 2]), num_hops=2)
    first = propagation_scores(matrix, start_of([0]), num_hops=2)
    second = propagation_scores(matrix, start_of([1, 2]), num_hops=2)
    np.testing.assert_allclose(both, jnp.concatenate([first, second], axis=1), 1e-6)


def test_formed_matrices_match_the_reference():
    matrix = reference.transition(
        np.random.default_rng(0).uniform(0.1, 1, (NUM_POINTS, NUM_POINTS)), 20
    )
    np.testing.assert_allclose(
        transition_power(as_batch(matrix), num_hops=3)[0],
        reference.power(matrix, 3),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        converged_transition(as_batch(matrix))[0],
        reference.converged(matrix, 0.25),
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    "scores",
    [lambda t, s: propagation_scores(t, s, num_hops=3), converged_scores],
    ids=["hops", "converged"],
)
def test_crop_without_seeds_scores_zero_and_has_finite_gradients(scores):
    transition = jnp.full((1, 4, 4), 0.25)
    total = lambda t: scores(t, jnp.zeros((1, 1, 4))).sum()
    assert total(transition) == 0
    assert jnp.isfinite(jax.grad(total)(transition)).all()


@pytest.mark.parametrize("num_hops", [0, -1])
def test_rejects_a_walk_without_hops(num_hops):
    with pytest.raises(ValueError, match="num_hops must be at least 1, got"):
        propagation_scores(jnp.ones((1, 2, 2)), jnp.ones((1, 1, 2)), num_hops=num_hops)


@pytest.mark.parametrize("blend", [-0.1, 1.0])
def test_rejects_a_blend_outside_its_range(blend):
    with pytest.raises(ValueError, match=r"blend must lie in \[0, 1\), got"):
        converged_scores(jnp.ones((1, 2, 2)), jnp.ones((1, 1, 2)), blend=blend)
