import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from exits_jax.ops.warp import warp_maps

SIZE = 32


def warped(maps, region, grid):
    found = warp_maps(
        jnp.asarray(maps, jnp.float32)[None],
        jnp.asarray(region, jnp.float32)[None],
        crop_size=SIZE,
        grid=grid,
    )
    return np.asarray(found[0])


def drawn(side, seed=0):
    return np.random.default_rng(seed).uniform(0.1, 1, (side, side))


@settings(max_examples=30, deadline=None)
@given(
    low=st.tuples(st.integers(-20, 20), st.integers(-20, 20)),
    extent=st.tuples(st.integers(8, 60), st.integers(8, 60)),
    seed=st.integers(0, 100),
)
def test_values_are_those_of_bilinear_interpolation(low, extent, seed):
    maps, grid = drawn(7, seed), 8
    (x0, y0), (wide, high) = low, extent
    centre = (np.arange(grid) + 0.5) * SIZE / grid
    x, y = (centre - x0) / wide * 7, (centre - y0) / high * 7
    rows, columns = np.meshgrid(y - 0.5, x - 0.5, indexing="ij")
    expected = map_coordinates(maps, [rows, columns], order=1, mode="nearest")
    is_in = lambda at: (at >= 0) & (at <= 7)
    expected = np.where(is_in(y)[:, None] & is_in(x)[None], expected, 0)
    actual = warped(maps, (x0, y0, x0 + wide, y0 + high), grid)
    # On the very edge, rounding decides whether a centre is in.
    near = lambda at: np.minimum(np.abs(at), np.abs(at - 7)) < 1e-5
    clear = ~near(y)[:, None] & ~near(x)[None]
    np.testing.assert_allclose(actual[clear], expected[clear], atol=1e-5)


def test_the_same_crop_keeps_its_map():
    maps = drawn(8)
    np.testing.assert_allclose(warped(maps, (0, 0, SIZE, SIZE), 8), maps, rtol=1e-6)


@pytest.mark.parametrize("region", [(-90, 0, -50, 32), (0, 40, 32, 70)])
def test_a_map_of_elsewhere_says_nothing(region):
    assert not warped(drawn(8), region, 4).any()


def test_a_mirrored_map_in_a_mirrored_region_is_the_mirrored_result():
    maps = drawn(6)
    found = warped(maps, (3, -5, 27, 30), 8)
    mirrored = warped(maps[:, ::-1], (SIZE - 27, -5, SIZE - 3, 30), 8)
    np.testing.assert_allclose(mirrored, found[:, ::-1], atol=1e-6)
