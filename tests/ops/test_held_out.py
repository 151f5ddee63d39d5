import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exits_jax.ops.clicks import Clicks
from exits_jax.ops.held_out import held_out_check, touch_check
from tests.support import reference

NUM_POINTS = 16
SEEDS = [5, 6, 9, 10]
BACKGROUND = [0, 1, 2, 3, 4, 7, 8, 11, 12, 13, 14, 15]


def inputs(similarity, background=BACKGROUND):
    matrix = reference.transition(similarity, 20)
    mask = np.isin(np.arange(NUM_POINTS), background)
    cells = jax.nn.one_hot(jnp.array([SEEDS]), NUM_POINTS)
    return jnp.asarray(matrix[None], jnp.float32), cells, jnp.asarray(mask[None])


def random_similarity(seed):
    return np.random.default_rng(seed).uniform(0.1, 1, (NUM_POINTS, NUM_POINTS))


def by_region(alike, unlike):
    is_object = np.isin(np.arange(NUM_POINTS), SEEDS)
    same = is_object[:, None] == is_object[None]
    return np.where(same, alike, unlike) + 0.01 * random_similarity(0)


def test_matches_a_count_by_hand():
    for seed in range(3):
        similarity = random_similarity(seed)
        matrix = reference.transition(similarity, 20)
        is_hidden = {i: (i // 4 + i % 4) % 2 == 0 for i in BACKGROUND}
        shown = [i for i in BACKGROUND if not is_hidden[i]]
        hidden = [i for i in BACKGROUND if is_hidden[i]]
        wins = 0
        for point in SEEDS:
            others = [other for other in SEEDS if other != point]
            margin = reference.propagation_scores(matrix, others, 3)
            margin = margin - reference.propagation_scores(matrix, shown, 3)
            wins += sum(margin[i] < margin[point] for i in hidden)
        actual = held_out_check(*inputs(similarity), num_hops=3)
        np.testing.assert_allclose(actual, wins / (4 * len(hidden)), rtol=1e-6)


def test_a_walk_that_stays_in_its_region_passes_and_an_inverted_one_fails():
    good = held_out_check(*inputs(by_region(1.0, 0.1)), num_hops=1)
    inverted = held_out_check(*inputs(by_region(0.1, 1.0)), num_hops=1)
    np.testing.assert_array_equal(good, 1)
    np.testing.assert_array_equal(inverted, 0)


def test_a_walk_that_knows_nothing_is_at_chance():
    _, cells, background = inputs(random_similarity(0))
    # 1/16 is exact in float32: all scores tie.
    uniform = jnp.full((1, NUM_POINTS, NUM_POINTS), 1 / NUM_POINTS)
    background = background.at[0, [0, 1, 2, 3]].set(False)  # 4 shown, 4 hidden
    actual = held_out_check(uniform, cells, background, num_hops=1)
    np.testing.assert_allclose(actual, 0.5)


def test_a_crop_without_hidden_background_is_at_chance():
    actual = held_out_check(*inputs(random_similarity(0), [1, 3]), num_hops=2)
    np.testing.assert_array_equal(actual, 0.5)


SIZE, GRID = 64, 8
BOX = (8.0, 8.0, 56.0, 56.0)
CLICKS = Clicks(
    jnp.array([[(20.0, 8.0), (8.0, 40.0), (44.0, 56.0), (56.0, 20.0)]]),
    jnp.array([True]),
    jnp.array([BOX]),
    jnp.array([(0.0, 0.0, 64.0, 64.0)]),
)


def touched(probability, side):
    found = touch_check(
        jnp.asarray(probability, jnp.float32)[None],
        CLICKS,
        side=side,
        crop_size=SIZE,
        inward_margin=0.05,
    )
    return float(found[0])


@pytest.mark.parametrize("side", range(4))
def test_a_map_that_peaks_where_a_side_is_touched_passes(side):
    x, y = np.asarray(CLICKS.extreme_points[0, side]) / 8
    at = np.arange(GRID) + 0.5
    peak = np.exp(-((at[:, None] - y) ** 2 + (at[None] - x) ** 2) / 2)
    assert touched(peak, side) == 1
    assert touched(-peak, side) == 0


@pytest.mark.parametrize("side", range(4))
def test_a_map_that_is_the_same_everywhere_is_at_chance(side):
    assert touched(np.ones((GRID, GRID)), side) == 0.5


def test_places_near_the_click_do_not_count():
    # Rises from left to right: on the top side the click lies a quarter along it.
    ramp = np.broadcast_to(np.arange(GRID, dtype=float), (GRID, GRID))
    share = (np.arange(24) + 0.5) / 24
    away = np.abs(share - 0.25) > 0.15
    expected = (share[away] < 0.25).mean()
    assert touched(ramp, 0) == pytest.approx(expected)
