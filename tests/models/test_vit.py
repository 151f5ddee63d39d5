from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from exits_jax.models import params as trees
from exits_jax.models.generator import PseudoLabelGenerator
from exits_jax.models.mask_decoder import DecoderConfig
from exits_jax.models.vit import (
    ConvStem,
    VisionTransformer,
    VitConfig,
    by_token,
    sincos_table,
    vit_config,
)
from exits_jax.ops.attention import by_head as attend_by_head
from exits_jax.ops.gelu import gelu
from tests.support import reference
from tests.support.modules import compiled, drawn

TOY = VitConfig(dim=16, depth=3, heads=2, patch_size=8, position_grid=4)


def build(config):
    return lambda rngs: VisionTransformer(config, rngs=rngs)


@cache
def toy(**options):
    """Graph and parameters of a small encoder."""
    return drawn(build(TOY._replace(**options)))


@cache
def module(**options):
    return nnx.merge(*toy(**options))


def images(batch=2, side=32, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(batch, side, side, 3)), jnp.float32)


def count(build_module):
    abstract = nnx.eval_shape(lambda: build_module(nnx.Rngs(0)))
    leaves = jax.tree.leaves(nnx.to_pure_dict(nnx.state(abstract, nnx.Param)))
    return sum(int(np.prod(leaf.shape)) for leaf in leaves)


@pytest.mark.parametrize("class_token", [True, False])
def test_features_and_attention_match_the_reference(class_token):
    graph, tree = toy(class_token=class_token)
    encoder, image = nnx.merge(graph, tree), images()
    exact = jax.tree.map(lambda x: np.asarray(x, np.float64), tree)
    features = encoder(image)
    maps = encoder.attention(image, layers=(1, 2, 3))
    for crop in range(2):
        patches, expected = reference.vit(
            np.asarray(image[crop], np.float64),
            exact,
            patch_size=8,
            heads=2,
            class_token=class_token,
        )
        np.testing.assert_allclose(
            features[crop].reshape(16, 16), patches, rtol=1e-4, atol=1e-5
        )
        for actual, each in zip(maps, expected, strict=True):
            np.testing.assert_allclose(actual[crop], each, rtol=1e-4, atol=1e-6)


def test_the_gelu_is_the_exact_one_in_bfloat16_too():
    x = jnp.linspace(-8, 8, 1001)
    half = x.astype(jnp.bfloat16)
    exact = lambda values: reference.gelu(np.asarray(values, np.float64))
    np.testing.assert_allclose(gelu(x), exact(x), rtol=1e-6, atol=2e-6)
    rounded = np.asarray(gelu(half), np.float64)
    np.testing.assert_allclose(rounded, exact(half), rtol=2**-8, atol=2e-6)


def test_a_layer_by_token_is_the_layer():
    layer = nnx.Linear(4, 6, rngs=nnx.Rngs(0))
    tokens = jax.random.normal(jax.random.key(0), (2, 3, 4))
    np.testing.assert_allclose(by_token(layer, tokens), layer(tokens), rtol=1e-6)


def test_rows_of_an_attention_sum_to_one():
    (probs,) = module().attention(images(), layers=(2,))
    np.testing.assert_allclose(probs.sum(axis=-1), 1, rtol=1e-5)


def test_attention_of_a_layer_runs_nothing_above_it():
    graph, tree = toy()
    poisoned = dict(tree)
    poison = lambda x: jnp.full_like(x, jnp.nan)
    poisoned["blocks"] = {
        number: jax.tree.map(poison, block) if number > 1 else block
        for number, block in tree["blocks"].items()
    }
    poisoned["norm"] = jax.tree.map(poison, tree["norm"])
    # Of the layer itself only norm_1 and the fused projection are needed.
    own = poisoned["blocks"][1]
    poisoned["blocks"][1] = {
        "norm_1": own["norm_1"],
        "norm_2": jax.tree.map(poison, own["norm_2"]),
        "mlp": jax.tree.map(poison, own["mlp"]),
        "attention": {
            "qkv": own["attention"]["qkv"],
            "projection": jax.tree.map(poison, own["attention"]["projection"]),
        },
    }
    (actual,) = nnx.merge(graph, poisoned).attention(images(), layers=(2,))
    (expected,) = module().attention(images(), layers=(2,))
    np.testing.assert_array_equal(actual, expected)


def test_layers_come_in_the_order_asked_for():
    encoder, image = module(), images()
    third, first = encoder.attention(image, layers=(3, 1))
    np.testing.assert_array_equal(first, encoder.attention(image, layers=(1,))[0])
    np.testing.assert_array_equal(third, encoder.attention(image, layers=(3,))[0])


@pytest.mark.parametrize("layers", [(), (0,), (4,), (1, 9)])
def test_rejects_layers_that_do_not_exist(layers):
    with pytest.raises(ValueError, match="Layers are counted from 1 to 3, got"):
        module().attention(images(), layers=layers)


@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize("layers", [(2,), (3, 1), (1, 2, 3)])
def test_one_pass_gives_attention_and_the_output_of_a_block(layers, block):
    encoder, image = module(), images()
    maps, features = encoder.attention_and_features(image, layers=layers, block=block)
    alone = encoder.attention(image, layers=layers)
    for actual, expected in zip(maps, alone, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)
    expected = encoder.block_outputs(image)[block - 1]
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)


def test_no_block_asked_for_gives_no_features():
    assert module().attention_and_features(images(), layers=(1,))[1] is None


@pytest.mark.parametrize("block", [0, 4])
def test_rejects_a_block_that_does_not_exist(block):
    with pytest.raises(ValueError, match="Layers are counted from 1 to 3, got"):
        module().attention_and_features(images(), layers=(1,), block=block)


def test_the_last_block_output_is_what_the_final_norm_reads():
    encoder, image = module(), images()
    tokens = encoder.norm(encoder.block_outputs(image)[-1])[:, 1:]
    np.testing.assert_allclose(
        encoder(image).reshape(2, 16, 16), tokens, rtol=1e-4, atol=1e-5
    )


def test_another_image_size_reads_the_table_bicubically():
    _, tree = toy()
    table = np.asarray(tree["position_table"])
    actual = module().positions(7)
    expected = reference.bicubic(table[1:].reshape(4, 4, 16), 7, 7)
    np.testing.assert_array_equal(actual[0], table[0])
    np.testing.assert_allclose(
        actual[1:], expected.reshape(49, 16), rtol=1e-4, atol=1e-5
    )
    assert module()(images(side=56)).shape == (2, 7, 7, 16)


def test_without_class_token_the_table_holds_patches_only():
    table = toy(class_token=False)[1]["position_table"]
    assert table.shape == (16, 16)
    assert module(class_token=False).positions(7).shape == (49, 16)


def test_encodes_only_the_patches_that_are_kept():
    encoder, image = module(), images()
    keep = jnp.array([[3, 0], [7, 12]])
    tokens = encoder.embed(image)
    actual = encoder.encode(tokens, keep)
    changed = encoder.encode(tokens.at[:, 1 + 5].set(9.0), keep)
    assert actual.shape == (2, 3, 16)
    np.testing.assert_array_equal(changed, actual)
    everything = jnp.broadcast_to(jnp.arange(16)[None], (2, 16))
    np.testing.assert_allclose(
        encoder.encode(tokens, everything), encoder.encode(tokens), rtol=1e-5
    )


def test_recomputing_blocks_changes_neither_values_nor_gradients():
    graph, tree = toy()
    remat_graph, _ = toy(remat="block")

    def loss(graph):
        total = lambda p: (nnx.merge(graph, p)(images()) ** 3).sum()
        return jax.jit(jax.value_and_grad(total))(tree)

    plain, plain_gradient = loss(graph)
    recomputed, gradient = loss(remat_graph)
    np.testing.assert_allclose(recomputed, plain, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3),
        gradient,
        plain_gradient,
    )


@pytest.mark.parametrize("scan", [False, True])
def test_attending_head_by_head_changes_neither_values_nor_gradients(scan):
    graph, tree = toy()
    by_head, _ = toy(attention="by_head", scan=scan)
    loss = lambda graph: jax.jit(
        jax.value_and_grad(lambda p: (nnx.merge(graph, p)(images()) ** 3).sum())
    )(tree)
    (value, gradient), (expected, exact) = loss(by_head), loss(graph)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    same = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3)
    jax.tree.map(same, gradient, exact)


def test_large_scores_overflow_in_no_head():
    query = 1e3 * jax.random.normal(jax.random.key(0), (1, 5, 2, 4))
    mixed = attend_by_head(query, query, query)
    assert np.isfinite(mixed).all()


def test_recomputing_blocks_is_in_the_program():
    graph, tree = toy(remat="block")
    program = str(jax.make_jaxpr(lambda p: nnx.merge(graph, p)(images()))(tree))
    assert program.count("checkpoint[") + program.count("remat2[") == 3


def test_compiled_equals_eager_and_compiles_once():
    graph, tree = toy()
    calls = []

    def features(tree, image):
        calls.append(1)
        return nnx.merge(graph, tree)(image)

    compiled = jax.jit(features)
    actual = compiled(tree, images())
    compiled(tree, images(seed=1))
    assert len(calls) == 1
    np.testing.assert_allclose(actual, module()(images()), rtol=1e-3, atol=1e-5)


def test_keys_start_as_queries_if_asked():
    qkv = first_projection(query_is_key=True)
    query, key, value = jnp.split(qkv["kernel"], 3, axis=1)
    np.testing.assert_array_equal(query, key)
    assert (value != key).any()
    np.testing.assert_array_equal(qkv["bias"], 0)


def test_keys_and_queries_otherwise_differ():
    query, key, _ = jnp.split(first_projection()["kernel"], 3, axis=1)
    assert (query != key).any()


def first_projection(**options):
    """Start of the fused projection of the first block."""
    config = TOY._replace(depth=1, **options)
    tree = trees.init_params(build(config), jax.random.key(0))
    return tree["blocks"]["0"]["attention"]["qkv"]


def test_half_precision_computes_in_half_and_attends_in_float32():
    encoder = module(dtype=jnp.bfloat16)
    features = encoder(images())
    (probs,) = encoder.attention(images(), layers=(1,))
    assert features.dtype == jnp.bfloat16 and probs.dtype == jnp.float32
    np.testing.assert_allclose(probs.sum(axis=-1), 1, rtol=1e-5)
    kernel = encoder.blocks[0].mlp.hidden.kernel[...]
    assert kernel.dtype == jnp.float32


def test_patches_are_read_in_row_major_order():
    encoder = module()
    image = images(1)
    cell = encoder.patch_embedding(image)[0, 1, 2]
    kernel = encoder.patch_embedding.kernel[...]
    expected = jnp.einsum("yxc,yxcd->d", image[0, 8:16, 16:24], kernel)
    expected = expected + encoder.patch_embedding.bias[...]
    np.testing.assert_allclose(cell, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_rejects_an_image_that_patches_do_not_tile(stem):
    with pytest.raises(ValueError, match="36x36 are not multiples of the patch size 8"):
        nnx.eval_shape(
            lambda: build(TOY._replace(stem=stem))(nnx.Rngs(0))(images(1, 36))
        )


def conv_stem(**options):
    config = VitConfig(dim=32, **options)
    return drawn(lambda rngs: ConvStem(config, rngs=rngs))


def test_conv_stem_halves_the_image_per_convolution_and_doubles_the_width():
    graph, tree = conv_stem()
    shapes = [tree["convs"][k]["kernel"].shape for k in range(4)]
    assert shapes == [(3, 3, 3, 4), (3, 3, 4, 8), (3, 3, 8, 16), (3, 3, 16, 32)]
    assert not any("bias" in tree["convs"][k] for k in range(4))
    features = jax.eval_shape(compiled(graph), tree, images(1, 64))
    assert features.shape == (1, 4, 4, 32)


def test_conv_stem_normalises_each_image_over_space_and_channels():
    graph, tree = conv_stem(patch_size=4)
    stem, image = compiled(graph), images(2, 16)
    # One group: a common factor on the input of the first norm cancels.
    actual = stem(tree, image * jnp.array([7.0, 3.0])[:, None, None, None])
    np.testing.assert_allclose(actual, stem(tree, image), rtol=1e-2, atol=1e-3)


def test_conv_stem_rejects_patches_that_halving_cannot_make():
    with pytest.raises(ValueError, match="power of 2, got 14"):
        ConvStem(VitConfig(dim=32, patch_size=14), rngs=nnx.Rngs(0))


def test_rejects_unknown_names_and_widths():
    with pytest.raises(ValueError, match="Unknown ViT size 'giant'; known: tiny"):
        vit_config("giant")
    with pytest.raises(ValueError, match="Unknown stem 'odd'; known: patch, conv"):
        build(TOY._replace(stem="odd"))(nnx.Rngs(0))
    with pytest.raises(ValueError, match="Width 16 is not a multiple of the 3 heads"):
        build(TOY._replace(heads=3))(nnx.Rngs(0))


def test_position_table_starts_as_sines_of_x_then_of_y():
    table = sincos_table(3, 8)
    frequency = np.array([1.0, 10000**-0.5])
    for cell in range(9):
        y, x = divmod(cell, 3)
        halves = [
            np.concatenate([np.sin(at * frequency), np.cos(at * frequency)])
            for at in (x, y)
        ]
        np.testing.assert_allclose(table[cell], np.concatenate(halves), rtol=1e-6)


def test_position_table_rejects_a_width_it_cannot_split():
    with pytest.raises(ValueError, match="divisible by 4, got 6"):
        sincos_table(2, 6)


def test_similarity_extractor_has_the_parameters_of_table_a5():
    assert count(build(vit_config("base"))) == 85_798_656


@pytest.mark.parametrize(
    ("stem", "expected"), [("patch", 89_601_280), ("conv", 93_090_400)]
)
def test_generator_has_the_parameters_of_table_a5(stem, expected):
    generator = lambda rngs: PseudoLabelGenerator(
        vit_config("base", stem=stem), DecoderConfig(), rngs=rngs
    )
    assert count(generator) == expected


def test_parameters_survive_the_way_through_a_plain_tree():
    graph = trees.abstract_graph(build(TOY))
    _, tree = toy()
    plain = {str(key): value for key, value in tree.items()}
    plain["blocks"] = {str(key): value for key, value in tree["blocks"].items()}
    np.testing.assert_array_equal(
        trees.bind(graph, plain)(images()), module()(images())
    )
    assert trees.count(plain) == count(build(TOY))
