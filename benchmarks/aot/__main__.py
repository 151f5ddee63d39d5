"""Compiles a training step for accelerators that are not here, and what it would cost.

python -m benchmarks.aot --target=v5e-16 --config=configs/voc.py [--per_chip=auto|8] \
    [--config.model.remat=dots ...] [--json=FILE]
python -m benchmarks.aot --table FILE...

Nothing is computed: the step of `exits_jax.phases.train` is lowered from shapes and
compiled for a described topology. With --per_chip=auto the largest batch that fits is
searched: memory grows linearly with it, so two compilations tell where the limit is,
and more find it. Each takes minutes at full size; results are kept in --cache.

TPUs need libtpu. Installed like other packages it makes every program that uses JAX
look for a TPU, so it is best kept apart, in a folder that is found here:

    pip install --no-deps --target .venv/libtpu libtpu==0.0.42.1

GPUs need the plugin of the installed jaxlib's version and CUDA's own tools, no driver:

    pip install --no-deps --target .venv/cuda jax-cuda13-plugin==VERSION \
        jax-cuda13-pjrt==VERSION nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm \
        nvidia-nvjitlink
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from absl import app, flags

from benchmarks.aot import hlo
from benchmarks.aot.report import Facts, lines, report, table
from benchmarks.aot.search import compiler_of, largest, needs
from benchmarks.aot.targets import TARGETS, target_named
from benchmarks.common.configuration import given, other_words
from benchmarks.flops import sizes_of, step_flops

_TARGET = flags.DEFINE_string("target", None, f"One of {', '.join(TARGETS)}.")
_PER_CHIP = flags.DEFINE_string("per_chip", "auto", "Rows on each chip, or auto.")
_FIRST = flags.DEFINE_integer("first", 4, "Rows with which the search begins.")
_JSON = flags.DEFINE_string("json", None, "File for the result.")
_CACHE = flags.DEFINE_string("cache", "runs/aot", "Folder of logs and results.")
_TABLE = flags.DEFINE_bool("table", False, "Print a table of the files named.")


def main(argv: list[str]) -> None:
    """Compiles, or prints the table of earlier results."""
    if _TABLE.value:
        print(table([json.loads(Path(name).read_text()) for name in argv[1:]]))
        return
    if flags.FLAGS.config is None or _TARGET.value is None:
        raise app.UsageError("--config and --target are required.")
    if _PER_CHIP.value == "auto":
        facts = largest(_compiled, limit=_hbm(), first=_FIRST.value)
    else:
        facts = _compiled(int(_PER_CHIP.value))
    config = given()
    flops = step_flops(
        sizes_of(config), remat=config.model.remat, attention=facts["attention"]
    )
    result = report(facts, target_named(_TARGET.value), flops, config)
    print(lines(result))
    if _JSON.value:
        Path(_JSON.value).parent.mkdir(parents=True, exist_ok=True)
        Path(_JSON.value).write_text(json.dumps(result, indent=1) + "\n")


def _hbm() -> float:
    return target_named(_TARGET.value).chip.hbm_bytes


def _compiled(rows: int) -> Facts:
    """Facts of one compilation, made in a process of its own."""
    platform = target_named(_TARGET.value).chip.platform
    is_here, variables = compiler_of(platform)
    if not is_here:
        raise RuntimeError(f"No compiler for {platform} is installed; see --help.")
    cache = Path(_CACHE.value)
    cache.mkdir(parents=True, exist_ok=True)
    settings = [arg for arg in sys.argv if arg.startswith("--config")]
    log = cache / f"{_TARGET.value}_{rows}_{os.getpid()}.log"
    command = [sys.executable, "-m", "benchmarks.aot.compile", *settings]
    command += [f"--target={_TARGET.value}", f"--per_chip={rows}", f"--cache={cache}"]
    print(f"{_TARGET.value}: {rows} rows per chip ... ", end="", flush=True)
    with open(log, "w", encoding="utf-8") as stream:
        done = subprocess.run(
            command,
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
    if done.returncode:
        tail = log.read_text(errors="replace")[-3000:]
        raise RuntimeError(f"The compilation failed; the end of {log}:\n{tail}")
    path = Path(done.stdout.splitlines()[-1])
    facts: dict[str, Any] = json.loads(path.read_text())
    if "rematerialisations" not in facts:  # not from the cache
        found = hlo.rematerialisations(log.read_text(errors="replace"))
        facts["rematerialisations"] = len(found)
        path.write_text(json.dumps(facts, indent=1))
    size = needs(facts)
    print("too large" if size == float("inf") else f"{size / 2**30:.2f} GiB")
    return facts


if __name__ == "__main__":
    app.run(main, argv=other_words())
