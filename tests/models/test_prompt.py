import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exits_jax.models.generator import PseudoLabelGenerator
from exits_jax.models.mask_decoder import DecoderConfig
from exits_jax.models.params import abstract_graph, bind, init_params
from exits_jax.models.prompt import GAIN, PromptConfig, PromptEmbedding, PromptSkip
from exits_jax.models.vit import VitConfig
from exits_jax.ops.prompts import NUM_CHANNELS
from tests.support.modules import compiled, drawn

SIZE, MASK = 32, 16
WALK = NUM_CHANNELS - 1
AREAS = jnp.array([500.0, 5000.0, 50000.0])


def _build(prompt, dtype="float32"):
    encoder = VitConfig(
        dim=8,
        depth=2,
        heads=2,
        patch_size=8,
        position_grid=4,
        dtype=jnp.dtype(dtype),
    )
    decoder = DecoderConfig(features=4, dtype=jnp.dtype(dtype))
    return lambda rngs: PseudoLabelGenerator(encoder, decoder, prompt=prompt, rngs=rngs)


def _run(build):
    """A compiled function (parameters, image, maps or None) -> logits."""
    graph = abstract_graph(build)
    return jax.jit(lambda params, image, maps: bind(graph, params)(image, AREAS, maps))


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(3, SIZE, SIZE, 3)).astype(np.float32)
    maps = rng.normal(size=(3, MASK, MASK, NUM_CHANNELS)).astype(np.float32)
    return jnp.asarray(image), jnp.asarray(maps)


@pytest.fixture(scope="module")
def started():
    """Parameters at the start, without prompts and with them."""
    key = jax.random.key(7)
    return init_params(_build(None), key), init_params(_build(PromptConfig()), key)


def test_prompts_change_no_other_random_number(started):
    plain, prompted = started
    assert prompted.keys() - plain.keys() == {"prompt"}
    others = {name: prompted[name] for name in plain}
    jax.tree.map(np.testing.assert_array_equal, others, plain)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_at_the_start_prompts_change_no_bit_of_the_logits(started, inputs, dtype):
    plain, prompted = started
    image, maps = inputs
    without = _run(_build(None, dtype))(plain, image, None)
    with_them = _run(_build(PromptConfig(), dtype))(prompted, image, maps)
    assert np.asarray(without).std() > 0
    np.testing.assert_array_equal(with_them, without)


def test_every_weight_of_the_prompts_has_a_gradient_at_the_start(started, inputs):
    run = _run(_build(PromptConfig()))
    loss = lambda params: (run(params, *inputs) ** 2).sum()
    grads = jax.jit(jax.grad(loss))(started[1])["prompt"]
    assert set(grads) == {"embedding", "skip"}
    for leaf in jax.tree.leaves(grads):
        assert np.isfinite(leaf).all() and (leaf != 0).all()


def test_without_a_prompt_its_part_is_idle(inputs):
    build = _build(PromptConfig())
    graph, tree = drawn(build)
    plain, _ = drawn(_build(None))
    image, maps = inputs
    others = {name: tree[name] for name in ("encoder", "decoder")}
    without = compiled(graph)(tree, image, AREAS)
    np.testing.assert_array_equal(without, compiled(plain)(others, image, AREAS))
    assert np.any(compiled(graph)(tree, image, AREAS, maps) != without)


def test_a_prompt_for_a_generator_without_its_part_is_refused(inputs):
    graph, tree = drawn(_build(None))
    with pytest.raises(ValueError, match="made without prompts"):
        compiled(graph)(tree, inputs[0], AREAS, inputs[1])


def test_a_single_weight_adds_what_the_walk_says(started, inputs):
    image, maps = inputs
    run = _run(_build(PromptConfig()))
    prompt = started[1]["prompt"]
    kernel = prompt["skip"]["linear"]["kernel"].at[WALK].set(16 / GAIN)
    told = started[1] | {"prompt": prompt | {"skip": {"linear": {"kernel": kernel}}}}
    added = run(told, image, maps) - run(started[1], image, maps)
    np.testing.assert_allclose(added, 16 * maps[..., WALK], rtol=1e-5, atol=1e-4)


def test_a_patch_sees_the_cells_of_its_own_square():
    graph, tree = drawn(
        lambda rngs: PromptEmbedding(6, ratio=4, dtype=jnp.float32, rngs=rngs)
    )
    embed = compiled(graph)
    maps = np.zeros((1, MASK, MASK, NUM_CHANNELS), np.float32)
    maps[0, 4:8, 8:12] = 1  # the patch in row 1, column 2
    changed = np.asarray(embed(tree, maps) != embed(tree, 0 * maps)).any(axis=-1)[0]
    assert changed[1, 2] and changed.sum() == 1


def test_the_skip_sees_each_pixel_alone():
    graph, tree = drawn(lambda rngs: PromptSkip(rngs=rngs))
    maps = np.random.default_rng(0).normal(size=(2, 5, 5, NUM_CHANNELS))
    added = compiled(graph)(tree, jnp.asarray(maps, jnp.float32))
    kernel = np.asarray(tree["linear"]["kernel"])[:, 0]
    np.testing.assert_allclose(added, GAIN * maps @ kernel, rtol=1e-4, atol=1e-4)
