from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from exits_jax.models.generator import PseudoLabelGenerator
from exits_jax.models.mask_decoder import DecoderConfig, MaskDecoder
from exits_jax.models.vit import VitConfig
from tests.support import reference
from tests.support.modules import compiled, drawn

AREA = {"small": 500.0, "medium": 5000.0, "large": 50000.0}
SCALE = {"small": 0.5, "medium": 1.0, "large": 2.0}
DIM, GRID, SIDE = 6, 4, 16


class Decoder:
    """A small decoder, as its call and its parameters."""

    def __init__(self, **options):
        config = DecoderConfig(features=5, **options)
        self.graph, self.tree = drawn(lambda rngs: MaskDecoder(DIM, config, rngs=rngs))
        self.compiled = compiled(self.graph)

    def __call__(self, patches, areas, **static):
        return self.compiled(self.tree, patches, jnp.asarray(areas), **static)


decoder = cache(Decoder)


def features(batch=1, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(batch, GRID, GRID, DIM)), jnp.float32)


def expected_logits(module, patches, scale, **options):
    pair = lambda layer: (
        np.asarray(layer["kernel"], np.float64),
        np.asarray(layer["bias"], np.float64),
    )
    pixel_head, prototype_head = (
        module.tree[head] for head in ("pixel_head", "prototype_head")
    )
    return reference.mask_decoder(
        patches,
        [pair(pixel_head["convs"][number]) for number in range(4)],
        pair(prototype_head["hidden"]),
        pair(prototype_head["output"]),
        scale=scale,
        side=SIDE,
        **options,
    )


@pytest.mark.parametrize("size", SCALE)
def test_each_object_size_matches_the_reference(size):
    patches = features()
    actual = decoder()(patches, jnp.array([AREA[size]]))
    expected = expected_logits(decoder(), patches[0], SCALE[size])
    np.testing.assert_allclose(actual[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fixed_scale", [1.0, 2.0])
def test_a_fixed_scale_matches_the_reference_whatever_the_area(fixed_scale):
    module = decoder(size_dependent=False, fixed_scale=fixed_scale)
    patches = features()
    actual = module(patches, jnp.array([AREA["small"]]))
    expected = expected_logits(module, patches[0], fixed_scale)
    np.testing.assert_allclose(actual[0], expected, rtol=1e-4, atol=1e-5)


def test_upsampling_may_come_before_the_third_convolution():
    module, patches = decoder(upsample_before=3), features()
    actual = module(patches, jnp.array([AREA["medium"]]))
    expected = expected_logits(module, patches[0], 1.0, upsample_before=3)
    np.testing.assert_allclose(actual[0], expected, rtol=1e-4, atol=1e-5)


def test_each_crop_of_a_batch_takes_its_own_scale():
    areas = jnp.array([AREA["large"], AREA["small"], AREA["medium"]])
    patches = features(3)
    together = decoder()(patches, areas)
    for crop in range(3):
        alone = decoder()(patches[crop : crop + 1], areas[crop : crop + 1])
        np.testing.assert_allclose(together[crop], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("area", "size"),
    [
        (0.0, "small"),
        (1023.0, "small"),
        (1024.0, "medium"),
        (9215.0, "medium"),
        (9216.0, "large"),
        (1e12, "large"),
    ],
)
def test_every_area_has_a_size_and_the_buckets_are_half_open(area, size):
    patches = features()
    np.testing.assert_array_equal(
        decoder()(patches, jnp.array([area])),
        decoder()(patches, jnp.array([AREA[size]])),
    )


@pytest.mark.parametrize(
    ("sizes", "area", "size"),
    [
        (("medium", "large"), AREA["small"], "medium"),
        (("small", "medium"), AREA["large"], "medium"),
        (("medium",), AREA["small"], "medium"),
        (("medium",), AREA["large"], "medium"),
        (("small", "large"), AREA["medium"], "small"),
        (("large", "medium"), AREA["medium"], "medium"),
        (("large", "medium"), AREA["large"], "large"),
    ],
)
def test_an_object_of_a_size_left_out_takes_the_next(sizes, area, size):
    patches = features()
    np.testing.assert_array_equal(
        decoder()(patches, jnp.array([area]), sizes=sizes),
        decoder()(patches, jnp.array([AREA[size]])),
    )


@pytest.mark.parametrize("sizes", [(), ("huge",)])
def test_rejects_sizes_that_do_not_exist(sizes):
    with pytest.raises(ValueError, match="known: small, medium, large"):
        decoder()(features(), jnp.array([1.0]), sizes=sizes)


def test_sizes_left_out_are_not_computed():
    module = decoder()
    relus = lambda sizes: str(
        jax.make_jaxpr(lambda x: module(x, jnp.ones(1), sizes=sizes))(features())
    ).count("custom_jvp_call[")
    assert relus(("medium", "large")) == 4 + 4 + 1  # the last is the prototype's
    assert relus(("large",)) == 4 + 1


def test_float32_on_a_cpu_alone_convolves_before_it_enlarges():
    def convolutions(dtype):
        module = Decoder(size_dependent=False, fixed_scale=2.0, dtype=dtype)
        traced = jax.make_jaxpr(lambda x: module(x, jnp.ones(1)))(features())
        return str(traced).count("conv_general_dilated[")

    assert convolutions(jnp.float32) == 2  # the others' maps are enlarged
    assert convolutions(jnp.bfloat16) == 4


def test_pixel_features_are_not_negative_and_twice_as_fine():
    pixels = nnx.merge(decoder().graph, decoder().tree).pixel_head(features(), GRID)
    assert pixels.shape == (1, 2 * GRID, 2 * GRID, 5)
    assert (pixels >= 0).all() and (pixels > 0).any()


def test_half_precision_gives_float32_logits():
    logits = decoder(dtype=jnp.bfloat16)(
        features().astype(jnp.bfloat16), jnp.array([AREA["medium"]])
    )
    assert logits.dtype == jnp.float32


def test_gradients_reach_both_heads_and_are_finite():
    areas = jnp.array([AREA["medium"], AREA["large"]])
    loss = lambda tree: (decoder().compiled(tree, features(2), areas) ** 2).sum()
    gradients = jax.tree.leaves(jax.jit(jax.grad(loss))(decoder().tree))
    assert all(jnp.isfinite(g).all() and (g != 0).any() for g in gradients)


def test_rejects_another_place_for_the_upsampling():
    with pytest.raises(ValueError, match="upsample_before must be 3 or 4, got 2"):
        decoder(upsample_before=2)


def test_the_generator_gives_four_logits_per_patch_side():
    encoder = VitConfig(dim=8, depth=1, heads=2, patch_size=8, position_grid=4)
    config = DecoderConfig(features=4)
    graph, tree = drawn(lambda rngs: PseudoLabelGenerator(encoder, config, rngs=rngs))
    image, areas = jnp.ones((2, 32, 32, 3)), jnp.array([5000.0, 50000.0])
    logits = jax.eval_shape(compiled(graph), tree, image, areas)
    assert logits.shape == (2, 16, 16)
