import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exits_jax.ops.clicks import Clicks
from exits_jax.ops.walk import (
    WalkOptions,
    log_ratio,
    nearest_transitions,
    walk_cells,
    walk_probability,
)
from tests.support import reference

SIZE, GRID, DIM = 64, 8, 5
NUM_CELLS = GRID * GRID
OPTIONS = WalkOptions()
BOX = (14.0, 11.0, 50.0, 53.0)
CLICKS = ((30.0, 11.5), (14.5, 40.0), (24.0, 52.5), (49.5, 20.0))
WHOLE = (0.0, 0.0, 64.0, 64.0)


def clicks_of(points=CLICKS, box=BOX, valid=WHOLE, *, has_points=True):
    rows = (jnp.asarray([x], jnp.float32) for x in (points, box, valid))
    points, box, valid = rows
    return Clicks(points, jnp.array([has_points]), box, valid)


def drawn(seed=0):
    """An attention map and features of 64 cells."""
    rng = np.random.default_rng(seed)
    similarity = rng.gamma(0.3, size=(NUM_CELLS, NUM_CELLS)) + 1e-6
    similarity = similarity / similarity.sum(axis=1, keepdims=True)
    features = rng.normal(size=(NUM_CELLS, DIM))
    return (jnp.asarray(x[None], jnp.float32) for x in (similarity, features))


def found(clicks, options=OPTIONS, seed=0):
    probability = walk_probability(
        *drawn(seed), clicks, crop_size=SIZE, options=options
    )
    return np.asarray(probability[0])


def slowly(clicks, options, similarity, features):
    """The whole chain of one object, from its references."""
    points, box, valid = (
        np.asarray(x[0], np.float64)
        for x in (clicks.extreme_points, clicks.box, clicks.valid_region)
    )
    delta = options.inward_margin * SIZE
    _, bg, _ = reference.initial_points(
        points, True, box, valid, crop_size=SIZE, patch_size=SIZE // GRID, delta=delta
    )
    _, _, inside = reference.initial_points(
        points, False, box, valid, crop_size=SIZE, patch_size=SIZE // GRID, delta=delta
    )
    inside, outside = (np.isin(np.arange(NUM_CELLS), list(x)) for x in (inside, bg))
    inward = delta * np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
    from_fg = np.mean(
        [
            reference.disc(x, y, box, SIZE, GRID, options.disc_radius)
            for x, y in points + inward
        ],
        axis=0,
    )
    sparse = reference.nearest_transitions(similarity, options.neighbours)
    matrix = reference.transition(sparse, options.num_rounds)
    reached = reference.power(matrix, options.num_hops)
    depth = reference.quadrilateral_depth(points, box, SIZE, GRID).ravel()
    ratio = reference.log_ratio(from_fg @ reached, outside / outside.sum() @ reached)
    evidence = ratio + options.depth_weight * depth
    first = inside / (1 + np.exp(-options.slope * (evidence - options.cut)))
    if not options.ridge_rounds:
        return first.reshape(GRID, GRID)
    second = reference.ridge(
        features,
        first,
        inside,
        outside,
        shrinkage=options.ridge_shrinkage,
        num_rounds=options.ridge_rounds,
        keep=options.ridge_keep,
    )
    return (inside * np.clip(second - options.ridge_cut + 0.5, 0, 1)).reshape(GRID, -1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "options", [OPTIONS, OPTIONS._replace(ridge_rounds=0, num_hops=2, depth_weight=0.3)]
)
def test_the_probability_matches_the_reference(seed, options):
    similarity, features = (np.asarray(x[0], np.float64) for x in drawn(seed))
    expected = slowly(clicks_of(), options, similarity, features)
    actual = found(clicks_of(), options, seed)
    # The log of scores that Sinkhorn left in float32 loses three digits.
    np.testing.assert_allclose(actual, expected, atol=2e-3)


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), share=st.sampled_from([0.001, 0.08, 0.5, 1.0]))
def test_nearest_transitions_match_the_reference(seed, share):
    similarity = np.random.default_rng(seed).uniform(0.01, 1, (20, 20))
    similarity = similarity.astype(np.float32)
    actual = nearest_transitions(jnp.asarray(similarity)[None], share=share)[0]
    expected = reference.nearest_transitions(similarity, share)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_every_cell_keeps_a_positive_transition():
    sparse = nearest_transitions(next(drawn()), share=0.001)
    assert (sparse > 0).all()


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), sharpness=st.sampled_from([1, 4, 20]))
def test_the_log_ratio_matches_the_reference(seed, sharpness):
    rng = np.random.default_rng(seed)
    scores = rng.uniform(size=(2, 16)) ** sharpness
    scores = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
    np.testing.assert_allclose(
        log_ratio(jnp.asarray(scores)[None])[0],
        reference.log_ratio(*scores.astype(np.float64)),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_cell_that_both_starts_reach_alike_has_no_sign():
    scores = jnp.full((1, 2, 4), 0.25)
    np.testing.assert_array_equal(log_ratio(scores), 0)


def test_a_cell_that_no_start_reaches_has_no_sign():
    np.testing.assert_array_equal(log_ratio(jnp.zeros((1, 2, 4))), 0)


def test_a_walk_starts_at_the_clicks_and_outside_the_box():
    shown = jnp.ones((1, 4), bool)
    cells = walk_cells(clicks_of(), shown, crop_size=SIZE, grid=GRID, options=OPTIONS)
    fg, bg, inside = (np.asarray(x[0]) for x in cells)
    np.testing.assert_allclose([fg.sum(), bg.sum()], 1, rtol=1e-5)
    assert not (fg[~inside] > 0.01).any() and not bg[inside].any()


def _blocks():
    """Attention within two groups of cells: an object in the box, and the rest."""
    row, column = np.divmod(np.arange(NUM_CELLS), GRID)
    is_object = (row > 0) & (row < 7) & (column > 1) & (column < 6)
    alike = is_object[:, None] == is_object[None]
    similarity = np.where(alike, 1.0, 0.01)
    similarity /= similarity.sum(axis=1, keepdims=True)
    features = np.where(is_object, 1.0, -1.0)[:, None] * np.ones(DIM)
    return is_object, (
        jnp.asarray(x[None], jnp.float32) for x in (similarity, features)
    )


@pytest.mark.parametrize("has_points", [True, False])
def test_a_group_of_cells_that_attend_to_each_other_is_found(has_points):
    is_object, (similarity, features) = _blocks()
    box = (16.0, 8.0, 48.0, 56.0)
    points = ((30.0, 8.5), (16.5, 30.0), (30.0, 55.5), (47.5, 30.0))
    clicks = clicks_of(points, box, has_points=has_points)
    options = OPTIONS._replace(neighbours=0.5, depth_weight=0.0)
    probability = walk_probability(
        similarity, features, clicks, crop_size=SIZE, options=options
    )
    np.testing.assert_array_equal(probability[0].ravel() > 0.5, is_object)


EDGES = {
    "a box alone": clicks_of(np.zeros((4, 2)), has_points=False),
    "four clicks in one place": clicks_of([(30.0, 30.0)] * 4),
    "no background outside the box": clicks_of(box=WHOLE),
    "a box of two cells": clicks_of(
        ((20.0, 16.5), (16.5, 20.0), (28.0, 23.5), (31.5, 20.0)), (16, 16, 32, 24)
    ),
    "a box within a cell": clicks_of([(18.0, 18.0)] * 4, (17.0, 17.0, 19.0, 19.0)),
    "left given as right": clicks_of([CLICKS[i] for i in (0, 3, 2, 1)]),
    "clicks beyond the box": clicks_of(np.add(CLICKS, 30)),
    "hardly any image": clicks_of(valid=(20.0, 20.0, 40.0, 40.0)),
}


@pytest.mark.parametrize("clicks", EDGES.values(), ids=EDGES)
@pytest.mark.parametrize("ridge_rounds", [0, 3])
def test_odd_clicks_give_probabilities(clicks, ridge_rounds):
    probability = found(clicks, OPTIONS._replace(ridge_rounds=ridge_rounds))
    assert probability.dtype == np.float32
    assert np.isfinite(probability).all()
    assert ((probability >= 0) & (probability <= 1)).all()


def test_cells_that_the_box_does_not_overlap_get_nothing():
    probability = found(clicks_of())
    assert not probability[0].any() and not probability[:, 0].any()
    assert not probability[7].any() and not probability[:, 7].any()


def test_a_box_alone_does_not_read_the_clicks():
    given = found(clicks_of(has_points=False))
    other = found(clicks_of(np.zeros((4, 2)), has_points=False))
    np.testing.assert_array_equal(given, other)


def test_an_object_does_not_depend_on_those_beside_it():
    clicks = list(EDGES.values())
    batch = jax.tree.map(lambda *rows: jnp.concatenate(rows), *clicks)
    inputs = zip(*(drawn(seed) for seed in range(len(clicks))), strict=True)
    similarity, features = (jnp.concatenate(rows) for rows in inputs)
    together = walk_probability(
        similarity, features, batch, crop_size=SIZE, options=OPTIONS
    )
    for seed, each in enumerate(clicks):
        np.testing.assert_allclose(together[seed], found(each, seed=seed), atol=1e-5)


def test_other_clicks_are_not_compiled_again():
    traces = []

    def traced(similarity, features, clicks):
        traces.append(1)
        return walk_probability(
            similarity, features, clicks, crop_size=SIZE, options=OPTIONS
        )

    once = jax.jit(traced)
    for seed, clicks in enumerate(EDGES.values()):
        actual = once(*drawn(seed), clicks)[0]
        np.testing.assert_allclose(actual, found(clicks, seed=seed), atol=1e-5)
    assert len(traces) == 1


def test_a_hidden_click_tells_nothing_of_its_place():
    def hidden(left):
        clicks = clicks_of((CLICKS[0], left, *CLICKS[2:]))
        shown = jnp.array([[True, False, True, True]])
        return walk_probability(
            *drawn(), clicks, crop_size=SIZE, options=OPTIONS, shown=shown
        )

    np.testing.assert_array_equal(hidden((14.5, 40.0)), hidden((14.5, 15.0)))


def test_to_hide_all_clicks_leaves_the_box_alone():
    shown = jnp.zeros((1, 4), bool)
    hidden = walk_probability(
        *drawn(), clicks_of(), crop_size=SIZE, options=OPTIONS, shown=shown
    )
    alone = found(clicks_of(has_points=False))
    np.testing.assert_array_equal(hidden[0], alone)
