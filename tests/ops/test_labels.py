import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exits_jax.ops.labels import drop_points, supervision
from exits_jax.ops.points import InitialPoints
from exits_jax.ops.retrieval import PseudoPoints
from tests.support import reference

NUM_POINTS = 16
few = settings(deadline=None, max_examples=20)


def pseudo_points(fg, bg):
    fg, bg = jnp.asarray(fg), jnp.asarray(bg)
    return PseudoPoints(fg, bg, jnp.zeros(fg.shape), jnp.zeros(fg.shape[0]))


def all_points(batch, num_points=NUM_POINTS):
    everywhere = jnp.ones((batch, num_points), bool)
    return pseudo_points(everywhere, everywhere)


def seeds(*values):
    return jnp.array(values, jnp.uint32)


def partition(rng):
    """Six disjoint sets over the points: fg, bg, box, pseudo fg, pseudo bg, none."""
    kind = rng.integers(0, 6, NUM_POINTS)
    return [kind == number for number in range(6)]


@few
@given(seed=st.integers(0, 10**6))
def test_target_and_known_match_the_reference(seed):
    fg, bg, unlabeled, pseudo_fg, pseudo_bg, _ = partition(np.random.default_rng(seed))
    blank = jnp.zeros((1, NUM_POINTS))
    initial = InitialPoints(fg[None], bg[None], unlabeled[None], blank, blank)
    initial = jax.tree.map(jnp.asarray, initial)
    actual = supervision(
        initial,
        pseudo_points(pseudo_fg[None], pseudo_bg[None]),
        is_empty=jnp.array([False]),
    )
    cells = lambda mask: set(np.flatnonzero(mask).tolist())
    target, known = reference.supervision(
        cells(fg), cells(bg), cells(pseudo_fg), cells(pseudo_bg), 4
    )
    np.testing.assert_array_equal(actual.target[0], target)
    np.testing.assert_array_equal(actual.known[0], known)


def test_supervision_keeps_the_verdict_it_is_given():
    # Dropout may empty a set that was found: the verdict is from before it.
    nothing = jnp.zeros((2, NUM_POINTS), bool)
    blank = jnp.zeros((2, NUM_POINTS))
    initial = InitialPoints(nothing, nothing, nothing, blank, blank)
    actual = supervision(
        initial, pseudo_points(nothing, nothing), is_empty=jnp.array([False, True])
    )
    np.testing.assert_array_equal(actual.is_empty, [False, True])


@few
@given(
    seed=st.integers(0, 2**32 - 1),
    draw=st.integers(0, 10**6),
    rate=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
)
def test_dropout_only_removes(seed, draw, rate):
    fg, bg = np.random.default_rng(draw).random((2, 1, NUM_POINTS)) < 0.5
    pseudo = pseudo_points(fg, bg)
    left = drop_points(pseudo, seeds(seed), dropout_rate=rate)
    assert not (left.fg & ~pseudo.fg).any()
    assert not (left.bg & ~pseudo.bg).any()


def test_dropout_rate_is_the_share_that_is_forgotten():
    left = drop_points(all_points(4, 1024), seeds(1, 2, 3, 4), dropout_rate=0.9)
    # 4096 draws of probability 0.1: five standard deviations are 0.024.
    assert abs(left.fg.mean() - 0.1) < 0.024
    assert abs(left.bg.mean() - 0.1) < 0.024


def test_rates_zero_and_one_keep_everything_and_nothing():
    everything = drop_points(all_points(2), seeds(1, 2), dropout_rate=0.0)
    assert everything.fg.all() and everything.bg.all()
    nothing = drop_points(all_points(2), seeds(1, 2), dropout_rate=1.0)
    assert not nothing.fg.any() and not nothing.bg.any()


def test_the_two_sets_are_dropped_independently():
    left = drop_points(all_points(1, 1024), seeds(7), dropout_rate=0.5)
    agreement = (left.fg == left.bg).mean()
    assert abs(agreement - 0.5) < 0.08


def test_what_is_dropped_does_not_depend_on_the_place_in_the_batch():
    alone = drop_points(all_points(1), seeds(5), dropout_rate=0.5)
    among = drop_points(all_points(3), seeds(9, 5, 2), dropout_rate=0.5)
    np.testing.assert_array_equal(among.fg[1], alone.fg[0])
    np.testing.assert_array_equal(among.bg[1], alone.bg[0])


def test_another_seed_drops_other_points():
    left = drop_points(all_points(2, 256), seeds(1, 2**32 - 1), dropout_rate=0.5)
    assert (left.fg[0] != left.fg[1]).any()


def test_compiled_dropout_equals_eager_and_compiles_once():
    calls = []

    def traced(pseudo, key_seeds):
        calls.append(1)
        return drop_points(pseudo, key_seeds, dropout_rate=0.5)

    compiled = jax.jit(traced)
    actual = compiled(all_points(2), seeds(1, 2))
    compiled(all_points(2), seeds(3, 4))
    assert len(calls) == 1
    expected = drop_points(all_points(2), seeds(1, 2), dropout_rate=0.5)
    np.testing.assert_array_equal(actual.fg, expected.fg)
    np.testing.assert_array_equal(actual.bg, expected.bg)


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_rejects_a_rate_that_is_no_probability(rate):
    with pytest.raises(ValueError, match=r"dropout_rate must lie in \[0, 1\], got"):
        drop_points(all_points(1), seeds(0), dropout_rate=rate)
