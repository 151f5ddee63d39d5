"""Operations counted by hand: against XLA where it counts rightly, against weights."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.flops import (
    Sizes,
    decoder_flops,
    encoder_flops,
    extractor_flops,
    sizes_of,
    step_flops,
)
from configs import tiny, voc
from exits_jax.models import mask_decoder
from exits_jax.models.params import abstract_graph, bind, init_params
from exits_jax.models.similarity import similarity
from exits_jax.ops.attention_choice import Device
from exits_jax.run.from_config import generator_builder

BATCH = 2


def _small():
    """Few blocks, none of them in a loop: what XLA's own count can be trusted with."""
    config = voc.get_config()
    config.model.size = "tiny"
    config.model.depth = 3
    config.model.dtype = "float32"
    config.crop.size = 128  # XLA leaves out what convolutions do off the border
    config.similarity.layers = (2,)
    return config


def _shapes(config):
    build = generator_builder(config, role="generator")
    params = jax.eval_shape(lambda: init_params(build, jax.random.key(0)))
    side = config.crop.size
    image = jax.ShapeDtypeStruct((BATCH, side, side, 3), jnp.float32)
    return build, params, image


def _counted_by_xla(function, *shapes) -> float:
    """Per image."""
    return jax.jit(function).lower(*shapes).compile().cost_analysis()["flops"] / BATCH


def test_generator_forward_agrees_with_xla(monkeypatch):
    # On a CPU the decoder takes fewer: it convolves maps before they are enlarged.
    monkeypatch.setattr(mask_decoder, "device", lambda: Device("TPU v5 lite"))
    config = _small()
    build, params, image = _shapes(config)
    graph, sizes = abstract_graph(build), sizes_of(config)
    area = jax.ShapeDtypeStruct((BATCH,), jnp.float32)
    counted = _counted_by_xla(
        lambda params, image, area: bind(graph, params)(
            image, area, sizes=("medium", "large")
        ),
        *(params, image, area),
    )
    expected = encoder_flops(sizes, "patch") + decoder_flops(sizes)
    assert expected == pytest.approx(counted, rel=0.1)


def test_encoder_forward_agrees_with_xla():
    config = _small()
    build, params, image = _shapes(config)
    graph = abstract_graph(lambda rngs: build(rngs).encoder)
    counted = _counted_by_xla(
        lambda params, image: bind(graph, params)(image), params["encoder"], image
    )
    assert encoder_flops(sizes_of(config), "patch") == pytest.approx(counted, rel=0.1)


def test_encoder_with_convolutions_agrees_with_xla():
    config = _small()
    config.model.stem = "conv"
    build, params, image = _shapes(config)
    graph = abstract_graph(lambda rngs: build(rngs).encoder)
    counted = _counted_by_xla(
        lambda params, image: bind(graph, params)(image), params["encoder"], image
    )
    assert encoder_flops(sizes_of(config), "conv") == pytest.approx(counted, rel=0.1)


def test_extractor_agrees_with_xla():
    config = _small()
    build, params, image = _shapes(config)
    graph = abstract_graph(lambda rngs: build(rngs).encoder)
    counted = _counted_by_xla(
        lambda params, image: similarity(bind(graph, params), image, layers=(2,)),
        *(params["encoder"], image),
    )
    assert extractor_flops(sizes_of(config)) == pytest.approx(counted, rel=0.1)


def test_blocks_cost_two_operations_per_weight_and_token_and_the_attention():
    build = generator_builder(voc.get_config(), role="generator")
    params = jax.eval_shape(lambda: init_params(build, jax.random.key(0)))
    sizes = sizes_of(voc.get_config())
    kernels = sum(
        leaf.size
        for leaf in jax.tree.leaves(params["encoder"]["blocks"])
        if leaf.ndim == 2
    )
    attention = 12 * 2 * 2 * sizes.tokens**2 * 768
    patches = 2 * 1024 * 768 * 768
    assert encoder_flops(sizes, "patch") == 2 * kernels * 1025 + attention + patches


def test_backward_pass_costs_twice_the_forward_pass():
    counted = step_flops(Sizes())
    assert counted.student == 3 * counted.teacher


def test_recomputation_is_no_part_of_what_the_method_needs():
    plain, dots, block = (
        step_flops(Sizes(), remat=name) for name in ("none", "dots", "block")
    )
    assert plain.model == dots.model == block.model
    assert plain.hardware < dots.hardware < block.hardware


def test_recomputed_blocks_are_all_that_the_encoder_holds():
    sizes = Sizes()
    stem = encoder_flops(sizes._replace(depth=0), "patch")
    recomputed = step_flops(sizes, remat="block").recomputed
    assert recomputed == encoder_flops(sizes, "patch") - stem


def test_sizes_follow_the_configuration():
    config = tiny.get_config()
    sizes = sizes_of(config)
    assert sizes.crop == 64 and sizes.dim == 32 and sizes.depth == 3
    assert sizes.layers == (2,) and sizes.features == 8 and sizes.crf_rounds == 10


def test_stored_labels_leave_the_extractor_out_of_a_step():
    config = voc.get_config()
    made = step_flops(sizes_of(config))
    config.labels.stored = True
    stored = step_flops(sizes_of(config))
    assert stored.extractor == 0 < stored.retrieval < made.retrieval
    assert made.model - stored.model == pytest.approx(
        made.extractor + made.retrieval - stored.retrieval
    )


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="remat 'half'.*block"):
        step_flops(Sizes(), remat="half")


@pytest.mark.parametrize("remat", ["none", "block"])
def test_all_ways_but_together_make_the_scores_again(remat):
    sizes = Sizes()
    again = lambda way: step_flops(sizes, remat=remat, attention=way).recomputed
    scores = 2 * sizes.tokens**2 * sizes.dim * sizes.depth
    assert again("cudnn") - again("together") == pytest.approx(scores)
