import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exits_jax.ops.clicks import Clicks
from exits_jax.ops.labels import drop_points
from exits_jax.ops.prompts import (
    NUM_CHANNELS,
    drop_prompts,
    jitter_clicks,
    prompt_maps,
)
from exits_jax.ops.retrieval import PseudoPoints

SIZE, GRID, PATCHES = 64, 32, 8
POINTS = [[32, 8], [12, 30], [36, 56], [52, 26]]  # top, left, bottom, right
BOX = [12, 8, 52, 56]
DEPTH, IN_BOX, WALK = 4, 5, 6


def _clicks(rows=1, has_points=True):
    return Clicks(
        extreme_points=jnp.array([POINTS] * rows, jnp.float32),
        has_points=jnp.full(rows, has_points),
        box=jnp.array([BOX] * rows, jnp.float32),
        valid_region=jnp.array([[0, 0, SIZE, SIZE]] * rows, jnp.float32),
    )


def _walk(rows=1):
    found = np.random.default_rng(0).random((rows, PATCHES, PATCHES))
    return jnp.asarray(found, jnp.float32)


def _maps(clicks, walk=None, grid=GRID, sigma=0.03):
    return np.asarray(prompt_maps(clicks, walk, crop_size=SIZE, grid=grid, sigma=sigma))


def test_each_click_is_a_gaussian_with_its_peak_there():
    maps = _maps(_clicks())[0]
    y, x = np.mgrid[:GRID, :GRID] * 2 + 1.0  # centres, px
    for channel, (at_x, at_y) in enumerate(POINTS):
        squared = (x - at_x) ** 2 + (y - at_y) ** 2
        expected = np.exp(-squared / (2 * (0.03 * SIZE) ** 2))
        np.testing.assert_allclose(maps[..., channel], expected, atol=1e-6)


def test_a_wider_sigma_makes_wider_clicks():
    heat = [_maps(_clicks(), sigma=sigma)[..., :4].sum() for sigma in (0.03, 0.06)]
    np.testing.assert_allclose(heat[1] / heat[0], 4, rtol=0.05)


def test_depth_is_positive_within_the_clicks_and_bounded():
    depth = _maps(_clicks())[0, ..., DEPTH]
    assert depth[16, 16] > 0.5  # the middle
    assert depth[5, 7] < 0  # a corner of the box
    assert depth.max() <= 1 and depth.min() == -1


def test_the_box_is_one_where_a_cell_has_its_centre_in_it():
    box = _maps(_clicks())[0, ..., IN_BOX]
    expected = np.zeros((GRID, GRID))
    expected[4:28, 6:26] = 1
    np.testing.assert_array_equal(box, expected)


def test_the_walk_is_given_as_bounded_log_odds():
    walk = jnp.array([[[0.0, 0.5], [0.75, 1.0]]])
    evidence = _maps(_clicks(), walk, grid=2)[0, ..., WALK]
    most = np.log(0.98 / 0.02) / 4
    expected = [[-most, 0], [np.log(3) / 4, most]]
    np.testing.assert_allclose(evidence, expected, rtol=1e-5, atol=1e-7)


def test_without_a_walk_its_map_is_zero():
    assert _maps(_clicks(), _walk())[..., WALK].any()
    assert not _maps(_clicks())[..., WALK].any()


def test_of_a_box_alone_the_box_and_its_walk_are_left():
    maps = _maps(_clicks(has_points=False), _walk())[0]
    assert maps.shape == (GRID, GRID, NUM_CHANNELS)
    assert not maps[..., : DEPTH + 1].any()
    given = _maps(_clicks(), _walk())[0]
    np.testing.assert_array_equal(maps[..., IN_BOX:], given[..., IN_BOX:])


SEEDS = jnp.arange(500, dtype=jnp.uint32)


def test_clicks_move_by_their_share_of_the_box_and_stay_in_it():
    before = _clicks(len(SEEDS))
    after = jitter_clicks(before, SEEDS, share=0.02)
    points = np.asarray(after.extreme_points)
    step = points - np.asarray(before.extreme_points)
    # Across its side a click can move inwards alone; along it in both directions.
    np.testing.assert_allclose(step[:, 0, 0].std(), 0.02 * 40, rtol=0.15)
    np.testing.assert_allclose(step[:, 1, 1].std(), 0.02 * 48, rtol=0.15)
    assert (step[:, 0, 1] >= 0).all() and (step[:, 0, 1] > 0).mean() > 0.4
    assert (points >= BOX[:2]).all() and (points <= BOX[2:]).all()
    np.testing.assert_array_equal(after.box, before.box)


def test_what_is_spoiled_depends_on_the_seed_of_the_crop_alone():
    clicks, walk = _clicks(8), _walk(8)

    def spoiled(rows):
        rows = jnp.asarray(rows)
        chosen = jax.tree.map(lambda x: x[rows], (clicks, walk))
        moved = jitter_clicks(chosen[0], SEEDS[rows], share=0.1)
        return drop_prompts(moved, chosen[1], SEEDS[rows], rate=0.5)

    whole, part = spoiled(range(8)), spoiled([6, 1])
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a[jnp.array([6, 1])], b),
        whole,
        part,
    )


def test_absent_clicks_do_not_move():
    clicks = _clicks(2, has_points=False)
    moved = jitter_clicks(clicks, SEEDS[:2], share=0.5)
    np.testing.assert_array_equal(moved.extreme_points, clicks.extreme_points)


def test_a_share_of_the_crops_forgets_clicks_and_walk():
    clicks, walk = _clicks(len(SEEDS)), _walk(len(SEEDS))
    kept, left = drop_prompts(clicks, walk, SEEDS, rate=0.3)
    forgotten = ~np.asarray(kept.has_points)
    np.testing.assert_allclose(forgotten.mean(), 0.3, atol=0.06)
    maps = _maps(kept, left, grid=8)
    assert not maps[forgotten][..., [*range(DEPTH + 1), WALK]].any()
    assert maps[forgotten][..., IN_BOX].any()
    np.testing.assert_array_equal(maps[~forgotten], _maps(clicks, walk, 8)[~forgotten])


def test_nothing_is_changed_where_nothing_is_wanted():
    clicks, walk = _clicks(3), _walk(3)
    assert jitter_clicks(clicks, SEEDS[:3], share=0.0) is clicks
    assert drop_prompts(clicks, walk, SEEDS[:3], rate=0.0) == (clicks, walk)


def test_a_forgotten_crop_loses_no_other_points_than_its_neighbour():
    """Forgetting and point dropout draw from streams of their own."""
    num_points = 200
    points = jnp.ones((len(SEEDS), num_points), bool)
    zeros = jnp.zeros(points.shape)
    pseudo = PseudoPoints(points, points, zeros, zeros[:, 0])
    share = drop_points(pseudo, SEEDS, dropout_rate=0.5).fg.mean(axis=1)
    kept, _ = drop_prompts(_clicks(len(SEEDS)), None, SEEDS, rate=0.5)
    correlation = np.corrcoef(share, kept.has_points)[0, 1]
    assert abs(correlation) < 0.15  # 3.4 standard deviations


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_a_rate_that_is_no_share_is_refused(rate):
    with pytest.raises(ValueError, match="rate must lie in"):
        drop_prompts(_clicks(), None, SEEDS[:1], rate=rate)


def test_a_negative_step_is_refused():
    with pytest.raises(ValueError, match="share must be at least 0"):
        jitter_clicks(_clicks(), SEEDS[:1], share=-0.1)
