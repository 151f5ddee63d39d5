import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exits_jax.ops.points import InitialPoints, initial_points
from exits_jax.ops.retrieval import PseudoPoints, retrieve_points
from tests.support import reference

PAPER = {"num_hops": 3, "fg_threshold": 1e-3, "bg_threshold": -1e-4}
few = settings(deadline=None, max_examples=15)
compiled = jax.jit(
    retrieve_points,
    static_argnames=("num_hops", "fg_threshold", "bg_threshold", "num_rounds"),
)


def crop(seed, has_points=True):
    """An object cut in two: attention by halves of a 6 x 6 grid, and its sets."""
    rng = np.random.default_rng(seed)
    part = np.repeat(np.arange(6)[None], 6, axis=0)
    is_object = ((part == 1) | (part == 4)).ravel()
    alike = is_object[:, None] == is_object[None]
    scores = 2.0 * alike + rng.normal(size=(36, 36))
    similarity = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    points = [(24, 17), (17, 40), (72, 79), (79, 40)]
    initial = initial_points(
        jnp.asarray([points], jnp.float32),
        jnp.array([has_points]),
        jnp.array([[16.0, 16.0, 80.0, 80.0]]),
        jnp.array([[0.0, 0.0, 96.0, 96.0]]),
        crop_size=96,
        patch_size=16,
        inward_margin_px=2.0,
    )
    return jnp.asarray(similarity[None], jnp.float32), initial, points


def cells(mask):
    return set(np.flatnonzero(mask).tolist())


@few
@given(seed=st.integers(0, 10**6), num_rounds=st.sampled_from([3, 10]))
def test_matches_the_reference(seed, num_rounds):
    similarity, initial, points = crop(seed)
    actual = compiled(similarity, initial, num_rounds=num_rounds, **PAPER)
    fg, bg, unlabeled = reference.initial_points(
        points,
        True,
        (16, 16, 80, 80),
        (0, 0, 96, 96),
        crop_size=96,
        patch_size=16,
        delta=2,
    )
    expected_fg, expected_bg, margin = reference.retrieve(
        similarity[0], fg, bg, unlabeled, num_rounds=num_rounds, **PAPER
    )
    np.testing.assert_allclose(actual.margin[0], margin, rtol=1e-4, atol=1e-7)
    scale = 1024 / 36
    # A score at a threshold may fall to either side of it in float32.
    edge = np.minimum(abs(margin - 1e-3 * scale), abs(margin + 1e-4 * scale)) < 1e-6
    assert cells(actual.fg[0] & ~edge) == expected_fg - cells(edge)
    assert cells(actual.bg[0] & ~edge) == expected_bg - cells(edge)


@few
@given(seed=st.integers(0, 10**6))
def test_labels_are_disjoint_and_inside_the_box(seed):
    similarity, initial, _ = crop(seed)
    pseudo = compiled(similarity, initial, **PAPER)
    assert not (pseudo.fg & pseudo.bg).any()
    assert not ((pseudo.fg | pseudo.bg) & ~initial.unlabeled).any()


@few
@given(seed=st.integers(0, 10**6), shuffle=st.integers(0, 10**6))
def test_relabelling_the_points_permutes_the_margin(seed, shuffle):
    similarity, initial, _ = crop(seed)
    order = np.random.default_rng(shuffle).permutation(36)
    permuted = jax.tree.map(lambda leaf: leaf[:, order], initial)
    margin = compiled(similarity, initial, **PAPER).margin
    actual = compiled(similarity[:, order][:, :, order], permuted, **PAPER)
    np.testing.assert_allclose(actual.margin, margin[:, order], rtol=1e-4, atol=1e-7)


def test_finds_the_separated_parts_of_an_object():
    similarity, initial, _ = crop(0)
    pseudo = retrieve_points(similarity, initial, **PAPER)
    columns = np.arange(36) % 6
    assert set(columns[cells_list(pseudo.fg)]) <= {1, 4}
    assert {1, 4} <= set(columns[cells_list(pseudo.fg | initial.fg)])
    assert set(columns[cells_list(pseudo.bg)]) == {2, 3}


def cells_list(mask):
    return sorted(cells(mask[0]))


def test_unlimited_hops_match_equation_a2():
    similarity, initial, _ = crop(3)
    actual = retrieve_points(similarity, initial, **(PAPER | {"num_hops": None}))
    matrix = reference.converged(reference.transition(similarity[0], 10), 0.25)
    start = np.asarray(initial.fg_start[0]) - np.asarray(initial.bg_start[0])
    np.testing.assert_allclose(actual.margin[0], start @ matrix, rtol=1e-4, atol=1e-7)


def test_thresholds_are_inclusive_and_shares_of_the_mean_entry():
    # Every score is 1/P whatever the set, so the margin is exactly 0.
    initial = InitialPoints(
        fg=jnp.array([[True, False, False, False]]),
        bg=jnp.array([[False, True, False, False]]),
        unlabeled=jnp.array([[False, False, True, True]]),
        fg_start=jnp.array([[1.0, 0, 0, 0]]),
        bg_start=jnp.array([[0, 1.0, 0, 0]]),
    )
    uniform = jnp.full((1, 4, 4), 0.25)
    at_zero = retrieve_points(
        uniform, initial, num_hops=1, fg_threshold=0.0, bg_threshold=-1e-4
    )
    assert cells(at_zero.fg[0]) == {2, 3}
    # Without background, the margin is 1/P, that is 1/1024 on the paper's grid.
    alone = initial._replace(bg_start=jnp.zeros((1, 4)))
    found = lambda share: retrieve_points(
        uniform, alone, num_hops=1, fg_threshold=share / 1024, bg_threshold=-1.0
    ).fg.any()
    assert found(0.999) and not found(1.001)


def test_a_crop_without_extreme_points_gets_no_pseudo_points():
    similarity, initial, _ = crop(0, has_points=False)
    pseudo = retrieve_points(similarity, initial, **PAPER)
    assert pseudo.is_empty[0] and not pseudo.fg.any() and not pseudo.bg.any()


def test_retrieval_failed_only_where_both_sets_are_empty():
    fg = jnp.array([[True, False], [False, False], [False, False]])
    bg = jnp.array([[False, False], [False, True], [False, False]])
    pseudo = PseudoPoints(fg, bg, jnp.zeros((3, 2)), jnp.zeros(3))
    np.testing.assert_array_equal(pseudo.is_empty, [False, False, True])


def test_compiled_equals_eager_and_compiles_once():
    calls = []

    def traced(similarity, initial):
        calls.append(1)
        return retrieve_points(similarity, initial, **PAPER)

    once = jax.jit(traced)
    similarity, initial, _ = crop(0)
    actual = once(similarity, initial)
    once(*crop(1)[:2])
    assert len(calls) == 1
    expected = retrieve_points(similarity, initial, **PAPER)
    np.testing.assert_allclose(actual.margin, expected.margin, rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(actual.fg, expected.fg)
    np.testing.assert_array_equal(actual.bg, expected.bg)


def test_rejects_thresholds_that_cross():
    similarity, initial, _ = crop(0)
    with pytest.raises(ValueError, match="must not exceed fg_threshold"):
        retrieve_points(
            similarity, initial, num_hops=1, fg_threshold=-1.0, bg_threshold=1.0
        )
