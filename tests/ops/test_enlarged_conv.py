import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exits_jax.ops.enlarged_conv import conv_of_enlarged
from exits_jax.ops.resize import resize_bilinear
from tests.support import reference


def drawn(cells, taps=3, seed=0):
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(2, cells, cells, 4)).astype(np.float32)
    return maps, rng.normal(size=(taps, taps, 4, 5)).astype(np.float32)


def enlarged_first(x, kernel, side):
    return jax.lax.conv_general_dilated(
        resize_bilinear(x, side, side),
        kernel,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )


@pytest.mark.parametrize(("cells", "side"), [(4, 8), (5, 7), (3, 12), (1, 2), (4, 4)])
def test_matches_the_reference(cells, side):
    maps, kernel = drawn(cells)
    actual = conv_of_enlarged(jnp.asarray(maps), jnp.asarray(kernel), side)
    assert actual.shape == (2, side, side, 5) and actual.dtype == jnp.float32
    for made, x in zip(actual, maps, strict=True):
        x = reference.bilinear(x.astype(np.float64), side, side)
        expected = reference.conv3x3(x, kernel, np.zeros(5))
        np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("cells", "side", "taps"), [(4, 8, 3), (5, 7, 3), (3, 6, 5)])
def test_gradients_are_those_of_a_convolution(cells, side, taps):
    maps, kernel = map(jnp.asarray, drawn(cells, taps))
    weights = jnp.asarray(
        np.random.default_rng(1).normal(size=(2, side, side, 5)), jnp.float32
    )
    gradient = lambda made: jax.grad(
        lambda x, kernel: (weights * made(x, kernel, side)).sum(), argnums=(0, 1)
    )(maps, kernel)
    for actual, expected in zip(
        gradient(conv_of_enlarged), gradient(enlarged_first), strict=True
    ):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
