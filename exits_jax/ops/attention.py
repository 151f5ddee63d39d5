"""Softmax attention: one reference, and a way for each kind of device.

Queries, keys and values are [B, T, K, D] for K heads; the result softmax(q k' / sqrt D)
v has the type of the values, scores and sums are float32. The ways differ in where the
T x T scores stay, which is what attention costs: `together` sends those of all heads
through memory several times. Which way suits which device: `attention_choice.py`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from exits_jax.ops.placement import on_each_device

KEPT = "attention"  # name of what a backward pass need not make again
KEPT_PRIMITIVES = ("dot_product_attention_fwd_wrapper",)  # cuDNN's carries no name
_PART = 4  # heads whose scores stay on the core of a TPU together
_LANES = 128  # a kernel of TPUs takes a multiple of them of tokens
_BLOCK = 1152  # tokens that such a kernel holds at a time, at most


def together(
    query: Float[Array, "b t k d"],
    key: Float[Array, "b t k d"],
    value: Float[Array, "b t k d"],
) -> Float[Array, "b t k d"]:
    """Of all heads at once: the reference."""
    return checkpoint_name(_mixed(query, key, value), KEPT)


def by_head(
    query: Float[Array, "b t k d"],
    key: Float[Array, "b t k d"],
    value: Float[Array, "b t k d"],
) -> Float[Array, "b t k d"]:
    """One head after the other: for CPUs.

    The scores of a head stay in the caches of a CPU, where those of all heads go out to
    memory and back several times. They are made again in the backward pass, and
    normalised after the product with the values, which are fewer than the scores.
    """
    heads = tuple(jnp.moveaxis(x, 2, 0) for x in (query, key, value))
    mixed = jax.lax.map(lambda head: _of_head(*head), heads)
    return checkpoint_name(jnp.moveaxis(mixed, 0, 2), KEPT)


def in_parts(
    query: Float[Array, "b t k d"],
    key: Float[Array, "b t k d"],
    value: Float[Array, "b t k d"],
) -> Float[Array, "b t k d"]:
    """A few heads of one image after the other: for TPUs with much memory on the core.

    XLA keeps the scores of a part there. They are made again in the backward pass.
    """

    def attend(*arrays: Array) -> Array:
        batch, length, heads, dim = arrays[0].shape
        part = heads_of_part(heads)
        # Tokens last: no lane is empty, and the parts lie in memory one by one.
        split = lambda x: x.transpose(0, 2, 3, 1).reshape(-1, part, dim, length)
        mixed = jax.lax.map(jax.checkpoint(_part_mixed), tuple(map(split, arrays)))
        return mixed.reshape(batch, heads, dim, length).transpose(0, 3, 1, 2)

    return checkpoint_name(on_each_device(attend, query, key, value), KEPT)


def splash(
    query: Float[Array, "b t k d"],
    key: Float[Array, "b t k d"],
    value: Float[Array, "b t k d"],
    *,
    interpret: bool = False,
) -> Float[Array, "b t k d"]:
    """JAX's Pallas kernel for TPUs, with one fused kernel for the gradient.

    Args:
        query: Queries.
        key: Keys.
        value: Values.
        interpret: Carry the kernel out step by step, on any device.
    """
    length, heads, dim = query.shape[1:]
    attend, block_ids = _splash_kernel(length, heads, interpret)

    def of_rows(*arrays: Array) -> Array:
        padding = ((0, 0), (0, 0), (0, block_ids.q.shape[0] - length), (0, 0))
        ready = [jnp.pad(jnp.moveaxis(x, 1, 2), padding) for x in arrays]
        mixed = jax.vmap(attend, in_axes=(0, 0, 0, None))(*ready, block_ids)
        return jnp.moveaxis(mixed[:, :, :length], 1, 2)

    return on_each_device(of_rows, query * dim**-0.5, key, value)


def cudnn(
    query: Float[Array, "b t k d"],
    key: Float[Array, "b t k d"],
    value: Float[Array, "b t k d"],
) -> Float[Array, "b t k d"]:
    """CuDNN's fused attention for NVIDIA's GPUs, in half precision.

    JAX refuses an odd number of tokens under a gradient: one more, masked, makes it
    even.
    """
    batch, length = query.shape[:2]
    padding = ((0, 0), (0, length % 2), (0, 0), (0, 0))
    lengths = jnp.full((batch,), length, jnp.int32) if length % 2 else None
    mixed = jax.nn.dot_product_attention(
        *(jnp.pad(x, padding) for x in (query, key, value)),
        query_seq_lengths=lengths,
        key_value_seq_lengths=lengths,
        implementation="cudnn",
    )
    return mixed[:, :length]


def mean_together(
    query: Float[Array, "b t k d"], key: Float[Array, "b t k d"]
) -> Float[Array, "b t t"]:
    """Softmax attention averaged over heads, float32: the reference."""
    return jax.nn.softmax(_scores(query, key), axis=-1).mean(axis=1)


def mean_in_parts(
    query: Float[Array, "b t k d"], key: Float[Array, "b t k d"]
) -> Float[Array, "b t t"]:
    """The same, a few heads of one image after the other: for TPUs."""

    def attend(*arrays: Array) -> Array:
        batch, length, heads, dim = arrays[0].shape
        part = heads_of_part(heads)
        split = lambda x: x.transpose(0, 2, 3, 1).reshape(batch, -1, part, dim, length)

        def add(total: Array, parts: tuple[Array, Array]) -> tuple[Array, None]:
            return total + _part_probabilities(*parts).sum(axis=0), None

        zeros = jnp.zeros((length, length), jnp.float32)
        of_image = lambda parts: jax.lax.scan(add, zeros, parts)[0] / heads
        return jax.lax.map(of_image, tuple(map(split, arrays)))

    return on_each_device(attend, query, key)


class Way(NamedTuple):
    """How a device attends, and how it makes the mean over heads."""

    attend: Callable[..., Array]
    mean: Callable[..., Array]


WAYS = {
    "together": Way(together, mean_together),
    "by_head": Way(by_head, mean_together),
    "in_parts": Way(in_parts, mean_in_parts),
    "splash": Way(splash, mean_in_parts),
    "cudnn": Way(cudnn, mean_together),
}


def heads_of_part(heads: int) -> int:
    """Heads whose scores stay on the core together: a divisor of all."""
    return max(n for n in range(1, _PART + 1) if heads % n == 0)


@jax.custom_vjp
def _of_head(query: Array, key: Array, value: Array) -> Float[Array, "b t d"]:
    return _of_head_forward(query, key, value)[0]


def _of_head_forward(query: Array, key: Array, value: Array):
    """The result, and with the arguments what its gradient needs."""
    scores = _head_scores(query, key)
    highest = scores.max(axis=-1, keepdims=True)
    weights = jnp.exp(scores - highest)
    mixed = jnp.einsum("bqt,btd->bqd", weights.astype(value.dtype), value)
    total = weights.sum(axis=-1, keepdims=True)
    mixed = (mixed / total).astype(value.dtype)
    return mixed, (query, key, value, mixed, highest + jnp.log(total))


def _of_head_backward(kept: tuple[Array, ...], gradient: Array):
    """Of P = softmax(S), dS = P * (dP - the sum of P * dP), which is that of O * dO.

    JAX's own gradient would also make the result O again.
    """
    query, key, value, mixed, log_total = kept
    dtype, scale = value.dtype, query.shape[-1] ** -0.5
    float32 = {"preferred_element_type": jnp.float32}
    probs = jnp.exp(_head_scores(query, key) - log_total)
    of_value = jnp.einsum("bqt,bqd->btd", probs.astype(dtype), gradient)
    of_probs = jnp.einsum("bqd,btd->bqt", gradient, value, **float32)
    total = jnp.einsum("bqd,bqd->bq", gradient, mixed, **float32)[..., None]
    of_scores = (probs * (of_probs - total)).astype(dtype)
    of_query = jnp.einsum("bqt,btd->bqd", of_scores, key) * scale
    of_key = jnp.einsum("bqt,bqd->btd", of_scores, query * scale)
    return of_query, of_key, of_value


_of_head.defvjp(_of_head_forward, _of_head_backward)


def _head_scores(query: Array, key: Array) -> Float[Array, "b q t"]:
    return jnp.einsum(
        "bqd,btd->bqt",
        query * query.shape[-1] ** -0.5,
        key,
        preferred_element_type=jnp.float32,
    )


def _scores(query: Array, key: Array) -> Float[Array, "b k q t"]:
    scale = query.shape[-1] ** -0.5
    return jnp.einsum(
        "bqkd,btkd->bkqt", query * scale, key, preferred_element_type=jnp.float32
    )


def _mixed(query: Array, key: Array, value: Array) -> Float[Array, "b t k d"]:
    probs = jax.nn.softmax(_scores(query, key), axis=-1).astype(value.dtype)
    return jnp.einsum("bkqt,btkd->bqkd", probs, value)


def _part_mixed(parts: tuple[Array, Array, Array]) -> Float[Array, "k d t"]:
    query, key, value = parts
    probs = _part_probabilities(query, key).astype(value.dtype)
    return jnp.einsum("kqt,kdt->kdq", probs, value)


def _part_probabilities(query: Array, key: Array) -> Float[Array, "k t t"]:
    scale = query.shape[-2] ** -0.5
    scores = jnp.einsum(
        "kdq,kdt->kqt", query * scale, key, preferred_element_type=jnp.float32
    )
    return jax.nn.softmax(scores, axis=-1)


def _splash_kernel(length: int, heads: int, interpret: bool) -> tuple[Any, Any]:
    """The kernel for some heads, and the numbers that tell tokens from padding."""
    # Imported late: it takes a second, and only TPUs want it.
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel as kernel,
    )
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_mask as masks,
    )

    count = -(-length // _BLOCK)
    block = -(-length // (count * _LANES)) * _LANES
    padded = count * block
    attend = kernel.make_splash_mha(
        mask=masks.MultiHeadMask([masks.FullMask((padded, padded))] * heads),
        block_sizes=kernel.BlockSizes(
            block_q=block,
            block_kv=block,
            block_q_dkv=block,
            block_kv_dkv=block,
            use_fused_bwd_kernel=True,
        ),
        head_shards=1,
        q_seq_shards=1,
        residual_checkpoint_name=KEPT,
        interpret=interpret,
    )
    is_token = (jnp.arange(padded) < length).astype(jnp.int32)
    return attend, kernel.SegmentIds(is_token, is_token)
