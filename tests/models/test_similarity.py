from functools import cache

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from exits_jax.models.similarity import similarity
from exits_jax.models.vit import VisionTransformer, VitConfig
from tests.support.modules import drawn


@cache
def encoder(class_token=True):
    config = VitConfig(
        dim=16,
        depth=3,
        heads=2,
        patch_size=8,
        position_grid=4,
        class_token=class_token,
    )
    return nnx.merge(*drawn(lambda rngs: VisionTransformer(config, rngs=rngs)))


def images():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(2, 32, 32, 3)), jnp.float32)


def test_the_class_token_is_removed_without_renormalising():
    (attention,) = encoder().attention(images(), layers=(2,))
    actual = similarity(encoder(), images(), layers=(2,))
    assert actual.shape == (2, 16, 16)
    np.testing.assert_array_equal(actual, attention[:, 1:, 1:])


def test_an_encoder_without_class_token_keeps_its_rows():
    actual = similarity(encoder(class_token=False), images(), layers=(2,))
    np.testing.assert_allclose(actual.sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("layers", [(1, 3), (1, 2, 3)], ids=["several", "all"])
def test_layers_are_averaged(layers):
    singles = [similarity(encoder(), images(), layers=(layer,)) for layer in layers]
    actual = similarity(encoder(), images(), layers=layers)
    np.testing.assert_allclose(actual, sum(singles) / len(layers), rtol=1e-6)
    assert np.abs(singles[0] - singles[-1]).max() > 1e-3


def test_every_entry_is_positive():
    # Sinkhorn needs support in every row and column.
    assert (similarity(encoder(), images(), layers=(3,)) > 0).all()
