from functools import cache, partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from exits_jax.models.autoencoder import AutoencoderConfig, MaskedAutoencoder
from exits_jax.models.vit import VitConfig
from tests.support.modules import compiled, drawn

ENCODER = VitConfig(dim=8, depth=1, heads=2, patch_size=4, position_grid=4)
GRID, SIDE = 4, 16


@cache
def parts(class_token=True, **options):
    config = AutoencoderConfig(dim=8, depth=1, heads=2, **options)
    encoder = ENCODER._replace(class_token=class_token)
    return drawn(lambda rngs: MaskedAutoencoder(encoder, config, grid=GRID, rngs=rngs))


@cache
def autoencoder(**options):
    """The loss as one compiled function of (image, keys)."""
    graph, tree = parts(**options)
    return partial(compiled(graph), tree)


def targets(image, **options):
    return nnx.merge(*parts(**options))._targets(image)


def images(batch=1, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(batch, SIDE, SIDE, 3)), jnp.float32)


def keys(*seeds):
    return jax.vmap(jax.random.key)(jnp.array(seeds))


def hidden_patches(key, **options):
    """Patches whose reconstruction error counts: the loss moves with their target."""
    graph, tree = parts(**options)
    original = MaskedAutoencoder._targets

    def loss(shift):
        moved = lambda self, image: original(self, image) + shift
        with mock.patch.object(MaskedAutoencoder, "_targets", moved):
            return nnx.merge(graph, tree)(images(), key)[0]

    shift = jnp.zeros((1, GRID**2, 48))
    return np.asarray((jax.jit(jax.grad(loss))(shift)[0] != 0).any(axis=-1))


@pytest.mark.parametrize("class_token", [True, False])
def test_the_error_is_that_of_the_hidden_patches_only(class_token):
    hidden = hidden_patches(keys(3), class_token=class_token)
    assert hidden.sum() == 12


def test_a_hidden_patch_is_unseen_by_the_encoder():
    # Painted pixels depend on visible patches alone, so the error is an exact
    # parabola in the pixels of a hidden patch, with a known curvature.
    module, image = autoencoder(), images()
    hidden = hidden_patches(keys(3))
    patch = int(np.flatnonzero(hidden)[0])
    row, column = divmod(patch, GRID)
    y, x = 4 * row, 4 * column
    loss = lambda t: module(image.at[0, y, x, 0].add(t), keys(3))[0]
    second = loss(10.0) - 2 * loss(0.0) + loss(-10.0)
    expected = 2 * 10.0**2 / (4 * 4 * 3) / hidden.sum()
    np.testing.assert_allclose(second, expected, rtol=1e-3)


def test_what_is_hidden_differs_from_key_to_key():
    first = hidden_patches(keys(1))
    second = hidden_patches(keys(2))
    assert (first != second).any()


def test_a_crop_does_not_depend_on_its_place_in_the_batch():
    module, image = autoencoder(), images(2)
    together = module(image, keys(1, 2))
    swapped = module(image[::-1], keys(2, 1))
    np.testing.assert_allclose(together, swapped[::-1], rtol=1e-5)


def test_the_share_of_hidden_patches_is_an_option():
    hidden = hidden_patches(keys(3), mask_ratio=0.5)
    assert hidden.sum() == 8


def test_targets_are_the_pixels_of_a_patch_in_row_major_order():
    image = images()
    target = targets(image)[0, GRID + 2]
    np.testing.assert_array_equal(target, image[0, 4:8, 8:12].reshape(-1))


def test_normalised_targets_have_no_mean_and_unit_variance():
    cells = targets(images() * 3 + 5, normalise_targets=True)
    np.testing.assert_allclose(cells.mean(axis=-1), 0, atol=1e-5)
    np.testing.assert_allclose(cells.std(axis=-1), 1, rtol=1e-2)


def test_a_flat_image_has_a_finite_loss_and_gradients():
    graph, state = parts(normalise_targets=True)
    flat = jnp.ones((1, SIDE, SIDE, 3))
    loss = lambda s: nnx.merge(graph, s)(flat, keys(0)).sum()
    value, gradients = jax.jit(jax.value_and_grad(loss))(state)
    assert jnp.isfinite(value)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.slow
def test_compiled_equals_eager():
    eager = nnx.merge(*parts())(images(2), keys(1, 2))
    np.testing.assert_allclose(autoencoder()(images(2), keys(1, 2)), eager, rtol=1e-4)


def test_rejects_the_stem_that_leaks_hidden_pixels():
    with pytest.raises(ValueError, match="'conv' stem leak hidden pixels"):
        MaskedAutoencoder(
            ENCODER._replace(stem="conv"),
            AutoencoderConfig(),
            grid=GRID,
            rngs=nnx.Rngs(0),
        )
