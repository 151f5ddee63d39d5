"""One case of `benchmarks.gpu`, in a process of its own; prints lines of JSON."""

import json
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections as mlc
import numpy as np
from absl import app, flags
from jax.extend import backend

from benchmarks.common.configuration import given, other_words
from benchmarks.gpu.steps import jax_step, torch_step_row
from exits_jax.ops.attention import WAYS
from exits_jax.ops.attention_choice import device, lack
from exits_jax.run.from_config import encoder_config

ROUNDS = 20
Row = dict[str, Any]
_CASE = flags.DEFINE_string("case", None, "One of benchmarks.gpu.", required=True)


def main(_) -> None:
    """Prints what the case finds."""
    for row in rows_of(_CASE.value, given()):
        print(json.dumps(row), flush=True)


def rows_of(case: str, config: mlc.ConfigDict) -> Iterator[Row]:
    """What a case finds, a row each."""
    kind, _, detail = case.partition(", ")
    if kind == "device":
        yield device_row()
    elif kind == "attention":
        yield from attention_rows(config)
    elif detail.startswith("torch"):
        yield torch_step_row(config, autocast=detail.endswith("autocast"))
    else:
        yield jax_step(config, detail)


def device_row() -> Row:
    """What is measured on."""
    found = jax.devices()[0]
    memory = (found.memory_stats() or {}).get("bytes_limit")
    return {
        "platform": found.platform,
        "kind": found.device_kind,
        "memory_bytes": memory,
        "jax": jax.__version__,
        "runtime": backend.get_backend().platform_version.splitlines()[0],
    }


def attention_rows(config: mlc.ConfigDict) -> Iterator[Row]:
    """Each way that serves this device, one layer of the configuration's encoder."""
    encoder = encoder_config(config, role="generator")
    tokens = (config.crop.size // encoder.patch_size) ** 2 + encoder.class_token
    head_dim = encoder.dim // encoder.heads
    shape = (config.batch_size, tokens, encoder.heads, head_dim)
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.normal(size=shape), encoder.dtype) for _ in range(4)]
    expected = exact_attention(*(np.asarray(x[:1], np.float64) for x in arrays))
    for name in WAYS:
        if name == "splash" or lack(
            name, device(), dtype=encoder.dtype, head_dim=head_dim
        ):
            continue
        try:
            yield {"way": name} | _attention_row(name, arrays, expected)
        except (jax.errors.JaxRuntimeError, NotImplementedError, ValueError) as error:
            yield {"way": name, "error": str(error).splitlines()[0]}


def _attention_row(name: str, arrays: list, expected: list[np.ndarray]) -> Row:
    def both(query, key, value, gradient):
        result, pull = jax.vjp(WAYS[name].attend, query, key, value)
        return (result, *pull(gradient))

    forward, _ = _compiled(WAYS[name].attend, *arrays[:3])
    backward, compile_s = _compiled(both, *arrays)
    found = backward(*arrays)
    again = [backward(*arrays) for _ in range(3)]
    return {
        "forward_ms": 1e3 * median(_seconds(lambda: forward(*arrays[:3]))),
        "with_gradient_ms": 1e3 * median(_seconds(lambda: backward(*arrays))),
        "compile_s": compile_s,
        "peak_bytes": backward.memory_analysis().temp_size_in_bytes,
        "relative_error": _error(found[0], expected[0]),
        "gradient_error": max(map(_error, found[1:], expected[1:])),
        "repeats": all(map(_same, again, 3 * [found])),
    }


def exact_attention(query, key, value, gradient) -> list[np.ndarray]:
    """Result and gradients in float64 [B, T, K, D], head by head."""
    found = [np.zeros_like(query) for _ in range(4)]
    scale = query.shape[-1] ** -0.5
    for row in range(query.shape[0]):
        for head in range(query.shape[2]):
            q, k, v, g = (x[row, :, head] for x in (query, key, value, gradient))
            scores = scale * q @ k.T
            probs = np.exp(scores - scores.max(axis=1, keepdims=True))
            probs /= probs.sum(axis=1, keepdims=True)
            of_probs = g @ v.T
            centre = (of_probs * probs).sum(axis=1, keepdims=True)
            of_scores = scale * probs * (of_probs - centre)
            parts = (probs @ v, of_scores @ k, of_scores.T @ q, probs.T @ g)
            for whole, part in zip(found, parts, strict=True):
                whole[row, :, head] = part
    return found


def _compiled(function: Callable, *arrays):
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arrays).compile()
    return compiled, time.perf_counter() - start


def _seconds(call: Callable[[], object]) -> list[float]:
    jax.block_until_ready(call())
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        jax.block_until_ready(call())
        found.append(time.perf_counter() - start)
    return found


def _error(found, expected: np.ndarray) -> float:
    """Root mean square of the difference, relative; of the first row."""
    difference = np.asarray(found[:1], np.float64) - expected
    return float(np.sqrt((difference**2).mean() / (expected**2).mean()))


def _same(found, other) -> bool:
    equal = jax.tree.map(lambda a, b: bool((a == b).all()), found, other)
    return all(jax.tree.leaves(equal))


if __name__ == "__main__":
    app.run(main, argv=other_words())
