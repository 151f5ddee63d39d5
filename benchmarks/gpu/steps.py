"""A training step on one device, ours and PyTorch's: the cases of `benchmarks.gpu`."""

import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections as mlc

from benchmarks.common.drawn_batch import drawn_batch
from benchmarks.common.step_methods import (
    JaxStep,
    Start,
    start_of,
    torch_batch,
    torch_step,
)
from benchmarks.flops import sizes_of, step_flops
from exits_jax.run.from_config import mesh_of
from exits_jax.run.workdir import Workdir
from exits_jax.train.sharding import shard_batch

ROUNDS = 10
Row = dict[str, Any]


def jax_step(config: mlc.ConfigDict, detail: str) -> Row:
    """Our step: as it is by default, with all heads "together", or of "MIL + CRF"."""
    if detail == "together":
        config.model.attention = "together"
    start, rows = _start(config)
    method = "mil_crf" if detail == "MIL + CRF" else "exits"
    step = JaxStep(config, start, method=method)
    batch = shard_batch(mesh_of(config), rows)
    before = jax.tree.map(jnp.copy, step.state)
    began = time.perf_counter()
    step(batch)
    compile_s = time.perf_counter() - began
    after = jax.tree.map(jnp.copy, step.state.params)
    step.state = before
    step(batch)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), step.state.params, after)
    seconds = _seconds(lambda: step(batch))
    stats = jax.devices()[0].memory_stats() or {}
    return _row(config, seconds) | {
        "compile_s": compile_s,
        "repeats": all(jax.tree.leaves(same)),
        "peak_bytes": stats.get("peak_bytes_in_use"),
    }


def torch_step_row(config: mlc.ConfigDict, *, autocast: bool) -> Row:
    """PyTorch's step, with products in bfloat16 or all of it in float32."""
    import torch

    has_gpu = torch.cuda.is_available()
    if jax.default_backend() == "gpu" and not has_gpu:
        return {"not run": "this PyTorch sees no GPU"}
    where = "cuda" if has_gpu else "cpu"
    config.model.dtype = "float32"  # of the parameters that it is given
    start, rows = _start(config)
    torch.set_default_device(where)
    step, batch = torch_step(config, start), torch_batch(rows)
    half = torch.autocast(where, torch.bfloat16) if autocast else nullcontext()
    with half:
        seconds = _seconds(lambda: step(batch))  # waits: it returns the loss
    peak = torch.cuda.max_memory_allocated() if has_gpu else None
    return _row(config, seconds) | {"peak_bytes": peak}


def _start(config: mlc.ConfigDict) -> tuple[Start, dict]:
    """Random parameters and drawn crops."""
    config.init.encoder = config.init.extractor = ""
    config.init.generator_from, config.pretrain.enabled = "encoder", False
    rows = drawn_batch(config.batch_size, config.crop.size, seed=config.seed)
    with tempfile.TemporaryDirectory() as scratch:
        return start_of(config, Workdir(scratch)), rows


def _row(config: mlc.ConfigDict, seconds: list[float]) -> Row:
    middle, rows = median(seconds), config.batch_size
    flops = step_flops(sizes_of(config)).model * rows
    return {
        "rows": rows,
        "step_ms": 1e3 * middle,
        "least_ms": 1e3 * min(seconds),
        "most_ms": 1e3 * max(seconds),
        "images_per_s": rows / middle,
        "model_tflops": flops / middle / 1e12,
    }


def _seconds(call: Callable[[], object]) -> list[float]:
    call()
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found
