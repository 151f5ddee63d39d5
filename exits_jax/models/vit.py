"""Vision transformer encoder (Dosovitskiy et al. 2021) with readable attention.

Pre-norm blocks, one fused query-key-value projection with bias, exact GELU, LayerNorm
with eps 1e-6, as in MAE and DeiT. Patches are read in row-major order.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from exits_jax.ops.attention import KEPT, KEPT_PRIMITIVES, WAYS
from exits_jax.ops.attention_choice import chosen, device
from exits_jax.ops.gelu import gelu
from exits_jax.ops.placement import keep_rows_split
from exits_jax.ops.resize import bicubic_matrix

SIZES = {  # width, blocks, heads
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}
INITS = {  # how linear layers start
    "normal": nnx.initializers.truncated_normal(0.02),  # the paper's baseline
    "xavier": nnx.initializers.xavier_uniform(),  # MAE: more contrast in attention
}


def _keeps_products(primitive, *args, **params) -> bool:
    """Of linear layers, and what attention gives."""
    policies = jax.checkpoint_policies
    return (
        primitive.name in KEPT_PRIMITIVES
        or policies.dots_with_no_batch_dims_saveable(primitive, *args, **params)
        or policies.save_only_these_names(KEPT)(primitive, *args, **params)
    )


REMAT = {  # what is saved of each block for the backward pass
    "none": None,  # all that it needs
    "dots": _keeps_products,  # linear layers and attention
    "block": jax.checkpoint_policies.nothing_saveable,  # its input alone
}


class VitConfig(NamedTuple):
    """Sizes and options of an encoder; `vit_config` fills it from a name."""

    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: int = 4
    patch_size: int = 16
    position_grid: int = 14  # side of the stored position table, cells
    position_offset: float = 0.0  # see `bicubic_matrix`
    stem: str = "patch"  # "patch": one kernel; "conv": the baseline's four convolutions
    class_token: bool = True
    init: str = "normal"  # of linear layers, see `INITS`
    query_is_key: bool = False  # start with W_k = W_q: attention starts as similarity
    remat: str = "none"  # what the backward pass computes again, see `REMAT`
    scan: bool = False  # one compiled block for all of them, see `run_blocks`
    attention: str = "together"  # a way of `ops/attention.py`, or "auto"
    dtype: DTypeLike = jnp.float32  # of activations; parameters stay in float32


def vit_config(size: str, **options) -> VitConfig:
    """The encoder called `size` ("tiny" ... "huge") with the given options.

    Raises:
        ValueError: If the size is unknown.
    """
    if size not in SIZES:
        raise ValueError(f"Unknown ViT size {size!r}; known: {', '.join(SIZES)}.")
    dim, depth, heads = SIZES[size]
    return VitConfig(**{"dim": dim, "depth": depth, "heads": heads, **options})


class VisionTransformer(nnx.Module):
    """Encoder that returns normalised patch features, or attention, of an image."""

    def __init__(self, config: VitConfig, *, rngs: nnx.Rngs):
        stems = {"patch": PatchEmbedding, "conv": ConvStem}
        if config.stem not in stems:
            raise ValueError(
                f"Unknown stem {config.stem!r}; known: {', '.join(stems)}."
            )
        if config.dim % config.heads:
            raise ValueError(
                f"Width {config.dim} is not a multiple of the {config.heads} heads."
            )
        self.config = config
        self.patch_embedding = stems[config.stem](config, rngs=rngs)
        table = jnp.asarray(sincos_table(config.position_grid, config.dim))
        if config.class_token:
            token = jax.random.normal(rngs.params(), (1, 1, config.dim)) * 0.02
            self.class_token = nnx.Param(token)
            table = jnp.concatenate([jnp.zeros((1, config.dim)), table])
        self.position_table = nnx.Param(table)
        self.blocks = nnx.List([Block(config, rngs=rngs) for _ in range(config.depth)])
        self.norm = _norm(config, rngs)

    def __call__(
        self,
        image: Float[Array, "b h w 3"],
        added: Float[Array, "b n n d"] | None = None,
    ) -> Float[Array, "b n n d"]:
        """Patch features after the last block and the final norm.

        Args:
            image: Normalised image.
            added: What is added to each patch before the first block, if anything.
        """
        tokens = self.encode(self.embed(image, added))
        if self.config.class_token:
            tokens = tokens[:, 1:]
        side = image.shape[1] // self.config.patch_size
        return tokens.reshape(tokens.shape[0], side, side, -1)

    def embed(
        self,
        image: Float[Array, "b h w 3"],
        added: Float[Array, "b n n d"] | None = None,
    ) -> Float[Array, "b t d"]:
        """Tokens with their positions; the class token, if any, is the first.

        `added` is added to the patches.
        """
        patches = self.patch_embedding(image.astype(self.config.dtype))
        side = patches.shape[1]
        positions = self.positions(side).astype(patches.dtype)
        tokens = patches.reshape(patches.shape[0], side * side, -1)
        tokens = tokens + positions[None, -side * side :]
        if added is not None:
            tokens = tokens + added.reshape(tokens.shape).astype(tokens.dtype)
        return keep_rows_split(self._with_class_token(tokens))

    def encode(
        self, tokens: Float[Array, "b t d"], keep: Int[Array, "b k"] | None = None
    ) -> Float[Array, "b _ d"]:
        """All blocks and the final norm.

        Args:
            tokens: What `embed` returns.
            keep: Patches to encode, by row-major number; all others are left out, as a
                masked autoencoder needs. The class token always stays.
        """
        if keep is not None:
            first = int(self.config.class_token)
            kept = jnp.take_along_axis(tokens[:, first:], keep[..., None], axis=1)
            tokens = jnp.concatenate([tokens[:, :first], kept], axis=1)
        return self.norm(run_blocks(self.blocks, tokens, self.config))

    def block_outputs(
        self, image: Float[Array, "b h w 3"]
    ) -> list[Float[Array, "b t d"]]:
        """Output of every block, before the final norm. For comparisons."""
        tokens, outputs = self.embed(image), []
        for block in self.blocks:
            tokens = block(tokens)
            outputs.append(tokens)
        return outputs

    def attention(
        self, image: Float[Array, "b h w 3"], *, layers: tuple[int, ...]
    ) -> list[Float[Array, "b t t"]]:
        """Softmax attention of some layers, averaged over heads, float32.

        Nothing above the last layer asked for is computed, and of that layer only its
        attention.

        Args:
            image: Normalised image.
            layers: Layers counted from 1, as in the paper.

        Raises:
            ValueError: If a layer does not exist or none is asked for.
        """
        return self.attention_and_features(image, layers=layers)[0]

    def attention_and_features(
        self,
        image: Float[Array, "b h w 3"],
        *,
        layers: tuple[int, ...],
        block: int | None = None,
    ) -> tuple[list[Float[Array, "b t t"]], Float[Array, "b t d"] | None]:
        """What `attention` gives, and the output of a block, in one pass.

        Args:
            image: Normalised image.
            layers: Layers whose attention is wanted, counted from 1.
            block: Block whose output is wanted, likewise; None wants none.

        Raises:
            ValueError: If a layer or the block does not exist or no layer is asked for.
        """
        depth = len(self.blocks)
        asked = tuple(layers) if block is None else (*layers, block)
        if not layers or not all(1 <= layer <= depth for layer in asked):
            raise ValueError(f"Layers are counted from 1 to {depth}, got {asked}.")
        tokens, maps, features, done = self.embed(image), {}, None, 0
        stops = [layer - 1 for layer in layers] + ([] if block is None else [block])
        for stop in sorted(set(stops)):
            tokens = run_blocks(self.blocks[done:stop], tokens, self.config)
            done = stop
            if stop == block:
                features = tokens
            if stop + 1 in layers:
                maps[stop + 1] = self.blocks[stop].mean_attention(tokens)
        return [maps[layer] for layer in layers], features

    def positions(self, side: int) -> Float[Array, "t d"]:
        """The position table for a grid of `side` cells, bicubic if resized."""
        table = self.position_table[...]
        stored = self.config.position_grid
        if side == stored:
            return table
        first = int(self.config.class_token)
        matrix = jnp.asarray(
            bicubic_matrix(stored, side, offset=self.config.position_offset)
        )
        grid = table[first:].reshape(stored, stored, -1)
        exact = jax.lax.Precision.HIGHEST
        grid = jnp.einsum("ij,jkd->ikd", matrix, grid, precision=exact)
        grid = jnp.einsum("ij,kjd->kid", matrix, grid, precision=exact)
        return jnp.concatenate([table[:first], grid.reshape(side * side, -1)])

    def _with_class_token(self, tokens: Float[Array, "b p d"]) -> Float[Array, "b t d"]:
        if not self.config.class_token:
            return tokens
        token = self.class_token[...][0] + self.position_table[...][:1]
        token = jnp.broadcast_to(
            token[None].astype(tokens.dtype), (tokens.shape[0], 1, tokens.shape[2])
        )
        return jnp.concatenate([token, tokens], axis=1)


class Block(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: VitConfig, *, rngs: nnx.Rngs):
        self.norm_1 = _norm(config, rngs)
        self.attention = Attention(config, rngs=rngs)
        self.norm_2 = _norm(config, rngs)
        self.mlp = Mlp(config, rngs=rngs)

    def __call__(self, tokens: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """One step of the encoder."""
        tokens = tokens + self.attention(self.norm_1(tokens))
        return tokens + self.mlp(self.norm_2(tokens))

    def mean_attention(self, tokens: Float[Array, "b t d"]) -> Float[Array, "b t t"]:
        """Attention of this block for its input, averaged over heads."""
        return self.attention.mean_probabilities(self.norm_1(tokens))


class Attention(nnx.Module):
    """Multi-head self-attention with a fused projection in the order q, k, v."""

    def __init__(self, config: VitConfig, *, rngs: nnx.Rngs):
        self.heads = config.heads
        self.way = config.attention
        dim = config.dim
        linear = partial(
            nnx.Linear, kernel_init=INITS[config.init], dtype=config.dtype, rngs=rngs
        )
        self.qkv = linear(dim, 3 * dim)
        self.projection = linear(dim, dim)
        if config.query_is_key:
            kernel = self.qkv.kernel[...]
            self.qkv.kernel[...] = kernel.at[:, dim : 2 * dim].set(kernel[:, :dim])

    def __call__(self, tokens: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Attended values, projected."""
        way = self._chosen()
        project = by_token if way == "by_head" else lambda layer, tokens: layer(tokens)
        query, key, value = self._split(project(self.qkv, tokens))
        mixed = WAYS[way].attend(query, key, value)
        return self.projection(mixed.reshape(tokens.shape))

    def mean_probabilities(
        self, tokens: Float[Array, "b t d"]
    ) -> Float[Array, "b t t"]:
        """Softmax attention averaged over heads, float32."""
        query, key, _ = self._split(self.qkv(tokens))
        return WAYS[self._chosen()].mean(query, key)

    def _chosen(self) -> str:
        dtype = self.qkv.dtype or jnp.float32
        head_dim = self.qkv.out_features // 3 // self.heads
        return chosen(self.way, dtype=dtype, head_dim=head_dim)

    def _split(self, packed: Float[Array, "b t e"]) -> tuple[Array, Array, Array]:
        batch, length, _ = packed.shape
        packed = packed.reshape(batch, length, 3, self.heads, -1)
        return packed[:, :, 0], packed[:, :, 1], packed[:, :, 2]


class Mlp(nnx.Module):
    """Two layers with an exact GELU between them."""

    def __init__(self, config: VitConfig, *, rngs: nnx.Rngs):
        linear = partial(
            nnx.Linear, kernel_init=INITS[config.init], dtype=config.dtype, rngs=rngs
        )
        self.hidden = linear(config.dim, config.mlp_ratio * config.dim)
        self.output = linear(config.mlp_ratio * config.dim, config.dim)

    def __call__(self, tokens: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Applied to each token alone."""
        return by_token(lambda x: self.output(gelu(self.hidden(x))), tokens)


def by_token(
    layer: Callable[[Array], Array], tokens: Float[Array, "b t d"]
) -> Float[Array, "b t e"]:
    """A layer applied to each token, on a CPU with all of them on one axis.

    There XLA makes faster products and gradients of a matrix than of a batch of
    matrices; elsewhere it costs a copy, as lengths are no multiple of a tile.
    """
    if device().platform != "cpu":
        return layer(tokens)
    rows = layer(tokens.reshape(-1, tokens.shape[-1]))
    return rows.reshape(*tokens.shape[:2], -1)


class PatchEmbedding(nnx.Module):
    """One linear map per patch; the kernel is stored as a convolution's, HWIO."""

    def __init__(self, config: VitConfig, *, rngs: nnx.Rngs):
        side = config.patch_size
        shape = (side, side, 3, config.dim)
        self.kernel = nnx.Param(
            nnx.initializers.xavier_uniform()(
                rngs.params(), (side * side * 3, config.dim)
            ).reshape(shape)
        )
        self.bias = nnx.Param(jnp.zeros(config.dim))

    def __call__(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b n n d"]:
        """Disjoint patches, so a reshape and a product replace the convolution."""
        kernel = self.kernel[...].astype(image.dtype)
        side, dim = kernel.shape[0], kernel.shape[-1]
        batch, height, width, _ = image.shape
        _check_divisible(height, width, side)
        rows, columns = height // side, width // side
        cells = image.reshape(batch, rows, side, columns, side, 3)
        cells = cells.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows, columns, -1)
        bias = self.bias[...].astype(image.dtype)
        return cells @ kernel.reshape(-1, dim) + bias[None, None, None]


class ConvStem(nnx.Module):
    """The stem of the paper's baseline: 3x3 convolutions of stride 2, then a 1x1.

    One convolution per halving of the image: four for patches of 16 px. Each is
    followed by a GroupNorm with one group and a GELU.
    """

    def __init__(self, config: VitConfig, *, rngs: nnx.Rngs):
        halvings = config.patch_size.bit_length() - 1
        if 2**halvings != config.patch_size:
            raise ValueError(
                f"The conv stem needs a patch size that is a power of 2, "
                f"got {config.patch_size}."
            )
        self.patch_size = config.patch_size
        widths = [config.dim // 2 ** (halvings - k) for k in range(1, halvings + 1)]
        conv = partial(
            nnx.Conv, kernel_init=torch_uniform, dtype=config.dtype, rngs=rngs
        )
        norm = partial(
            nnx.GroupNorm, num_groups=1, epsilon=1e-6, dtype=config.dtype, rngs=rngs
        )
        self.convs = nnx.List(
            [
                conv(
                    inputs,
                    outputs,
                    (3, 3),
                    strides=2,
                    padding=((1, 1), (1, 1)),
                    use_bias=False,
                )
                for inputs, outputs in zip([3, *widths[:-1]], widths, strict=True)
            ]
        )
        self.norms = nnx.List([norm(width) for width in widths])
        self.projection = conv(
            config.dim, config.dim, (1, 1), bias_init=torch_uniform_bias(config.dim)
        )

    def __call__(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b n n d"]:
        """Patch features at 1/16 (1 / patch size) of the image's resolution."""
        _check_divisible(image.shape[1], image.shape[2], self.patch_size)
        x = image
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = gelu(norm(conv(x)))
        return self.projection(x)


def run_blocks(
    blocks: Sequence["Block"], tokens: Float[Array, "b t d"], config: VitConfig
) -> Float[Array, "b t d"]:
    """Some blocks in turn.

    With `config.scan` their parameters are stacked within the computation and one block
    is compiled for all of them: parameters, checkpoints and files stay as they are, at
    the price of one copy of the parameters.

    Args:
        blocks: Blocks of equal sizes.
        tokens: Input of the first.
        config: Its `scan` and `remat` count.
    """
    if not blocks:
        return tokens
    graphs, params = zip(*(nnx.split(block) for block in blocks))

    def apply(x, one_params):
        return keep_rows_split(nnx.merge(graphs[0], one_params)(x)), None

    policy = REMAT[config.remat]
    if policy is not None:
        apply = jax.checkpoint(apply, policy=policy, prevent_cse=not config.scan)
    if config.scan:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
        return jax.lax.scan(apply, tokens, stacked)[0]
    for one_params in params:
        tokens, _ = apply(tokens, one_params)
    return tokens


def sincos_table(side: int, dim: int) -> np.ndarray:
    """The fixed table of MAE, [side * side, dim]: first half encodes x, second half y.

    Each half is all sines, then all cosines, of pos * 10000^(-k / (dim / 4)).

    Raises:
        ValueError: If `dim` is not a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"A sin-cos table needs a width divisible by 4, got {dim}.")
    quarter = dim // 4
    frequency = 10000.0 ** (-np.arange(quarter) / quarter)
    y, x = np.divmod(np.arange(side * side), side)
    half = lambda position: np.concatenate(
        [np.sin(np.outer(position, frequency)), np.cos(np.outer(position, frequency))],
        axis=1,
    )
    return np.concatenate([half(x), half(y)], axis=1).astype(np.float32)


def torch_uniform(key, shape, dtype=jnp.float32, out_sharding=None) -> Array:
    """PyTorch's default start of a layer: uniform within +-1 / sqrt(fan in)."""
    del out_sharding
    bound = float(np.prod(shape[:-1])) ** -0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def torch_uniform_bias(fan_in: int):
    """The bias that goes with `torch_uniform`."""

    def init(key, shape, dtype=jnp.float32, out_sharding=None) -> Array:
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

    return init


def _norm(config: VitConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(config.dim, epsilon=1e-6, dtype=config.dtype, rngs=rngs)


def _check_divisible(height: int, width: int, patch_size: int) -> None:
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"Image sides {height}x{width} are not multiples of the patch size "
            f"{patch_size}."
        )
