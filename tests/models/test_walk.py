from functools import cache

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from exits_jax.models.vit import VisionTransformer, VitConfig
from exits_jax.models.walk import walk_map
from exits_jax.ops.clicks import Clicks
from exits_jax.ops.walk import WalkOptions, walk_probability
from tests.support.modules import drawn

TOY = VitConfig(dim=16, depth=3, heads=2, patch_size=8, position_grid=4)
CLICKS = Clicks(
    jnp.array([[[14.0, 4.5], [4.5, 16.0], [16.0, 27.5], [27.5, 12.0]]] * 2),
    jnp.array([True, False]),
    jnp.array([[4.0, 4.0, 28.0, 28.0]] * 2),
    jnp.array([[0.0, 0.0, 32.0, 32.0]] * 2),
)


@cache
def encoder(*, class_token=True):
    config = TOY._replace(class_token=class_token)
    return nnx.merge(*drawn(lambda rngs: VisionTransformer(config, rngs=rngs)))


def images():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(2, 32, 32, 3)), jnp.float32)


def found(options, *, class_token=True, feature_block=3):
    return walk_map(
        encoder(class_token=class_token),
        images(),
        CLICKS,
        layers=(1, 3),
        feature_block=feature_block,
        options=options,
    )


@pytest.mark.parametrize("class_token", [True, False])
def test_patches_alone_take_part_in_the_walk(class_token):
    first, model = int(class_token), encoder(class_token=class_token)
    one, three = model.attention(images(), layers=(1, 3))
    expected = walk_probability(
        ((one + three) / 2)[:, first:, first:],
        model.block_outputs(images())[1][:, first:],
        CLICKS,
        crop_size=32,
        options=WalkOptions(),
    )
    actual = found(WalkOptions(), class_token=class_token, feature_block=2)
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_without_a_ridge_the_block_does_not_matter():
    options = WalkOptions(ridge_rounds=0)
    first, third = (found(options, feature_block=block) for block in (1, 3))
    np.testing.assert_array_equal(first, third)
    assert not np.allclose(first, found(WalkOptions()))
