import jax.numpy as jnp
import numpy as np
import pytest

from exits_jax.ops.resize import (
    bicubic_matrix,
    bilinear_matrix,
    resize_bilinear,
    resize_map,
)
from tests.support import reference

SIZES = [(6, 3), (6, 12), (6, 4), (4, 14), (5, 7)]


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_bilinear_matches_the_reference(source, target):
    x = random(2, source, source + 1, 3)
    actual = resize_bilinear(jnp.asarray(x), target, target + 2)
    for crop, expected in zip(actual, x, strict=True):
        expected = reference.bilinear(expected, target, target + 2)
        np.testing.assert_allclose(crop, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_bilinear_matrix_is_the_resize_of_one_axis(source, target):
    x = random(1, source, 1, 3)
    matrix = bilinear_matrix(source, target)
    assert matrix.shape == (target, source) and matrix.dtype == np.float32
    expected = resize_bilinear(jnp.asarray(x), target, 1)
    np.testing.assert_allclose(matrix @ x[0, :, 0], expected[0, :, 0], atol=1e-6)


def test_a_map_is_resized_like_a_channel():
    x = random(2, 6, 6)
    np.testing.assert_array_equal(
        resize_map(jnp.asarray(x), 4, 9),
        resize_bilinear(jnp.asarray(x[..., None]), 4, 9)[..., 0],
    )


def test_halving_is_the_mean_of_four_cells():
    x = random(1, 6, 6)
    actual = resize_map(jnp.asarray(x), 3, 3)
    expected = x.reshape(1, 3, 2, 3, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_the_own_size_returns_the_input():
    x = jnp.asarray(random(1, 4, 5, 2))
    np.testing.assert_array_equal(resize_bilinear(x, 4, 5), x)


def test_half_precision_stays_half_precision():
    x = jnp.asarray(random(1, 4, 4, 2), jnp.bfloat16)
    assert resize_bilinear(x, 8, 8).dtype == jnp.bfloat16


@pytest.mark.parametrize("offset", [0.0, 0.1])
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_bicubic_matches_the_reference(source, target, offset):
    x = random(source, source)
    matrix = bicubic_matrix(source, target, offset=offset)
    expected = reference.bicubic(x, target, target, offset=offset)
    np.testing.assert_allclose(matrix @ x @ matrix.T, expected, rtol=1e-4, atol=1e-5)


def test_bicubic_weights_sum_to_one():
    np.testing.assert_allclose(bicubic_matrix(14, 32).sum(axis=1), 1, rtol=1e-6)


def test_bicubic_at_the_own_size_is_the_identity():
    np.testing.assert_allclose(bicubic_matrix(14, 14), np.eye(14), atol=1e-7)


@pytest.mark.torch
@pytest.mark.parametrize(("source", "target"), [(14, 32), (32, 14), (5, 7)])
def test_resizes_as_pytorch_does(source, target):
    torch = pytest.importorskip("torch")
    x = random(1, source, source, 2)
    channels_first = torch.from_numpy(x).permute(0, 3, 1, 2)

    def expected(mode):
        resized = torch.nn.functional.interpolate(
            channels_first, size=(target, target), mode=mode, align_corners=False
        )
        return resized.permute(0, 2, 3, 1).numpy()

    bilinear = resize_bilinear(jnp.asarray(x), target, target)
    np.testing.assert_allclose(bilinear, expected("bilinear"), rtol=1e-4, atol=1e-5)
    matrix = bicubic_matrix(source, target)
    bicubic = np.einsum("ij,bjkc,lk->bilc", matrix, x, matrix)
    np.testing.assert_allclose(bicubic, expected("bicubic"), rtol=1e-4, atol=1e-5)


@pytest.mark.torch
def test_the_offset_is_that_of_pytorch_with_a_given_scale():
    torch = pytest.importorskip("torch")
    x = random(1, 14, 14, 2)
    channels_first = torch.from_numpy(x).permute(0, 3, 1, 2)
    scale = (32 + 0.1) / 14
    resized = torch.nn.functional.interpolate(
        channels_first, scale_factor=(scale, scale), mode="bicubic"
    )
    matrix = bicubic_matrix(14, 32, offset=0.1)
    actual = np.einsum("ij,bjkc,lk->bilc", matrix, x, matrix)
    expected = resized.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
