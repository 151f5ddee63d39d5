"""Compiles both halves of a step for a target and writes what they need as JSON.

`benchmarks.aot` starts it, as a process of its own: the warnings of the compiler come
on its stderr, and memory is given back.

A result is kept under the digest of the program, so that an interrupted search goes on
where it was and a changed program is compiled anew.
"""

import hashlib
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import jax
from absl import app, flags
from jax._src.cudnn import fused_attention_stablehlo
from jax.experimental import topologies

from benchmarks.aot import hlo
from benchmarks.aot.step import Lowered, lower_step
from benchmarks.aot.targets import H100_CONFIG, Target, target_named
from benchmarks.common.configuration import given, other_words
from exits_jax.train.sharding import make_mesh

_TARGET = flags.DEFINE_string("target", None, "What to compile for.")
_PER_CHIP = flags.DEFINE_integer("per_chip", None, "Rows of a batch on each chip.")
_CACHE = flags.DEFINE_string("cache", None, "Folder of results.")


def main(_) -> None:
    """Prints the path of the result."""
    config, target = given(), target_named(_TARGET.value)
    if target.chip.platform == "cuda":
        _take_cudnn_for_granted()
    devices = describe(target).devices
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, devices=devices)
    lowered = lower_step(config, mesh, rows=_PER_CHIP.value * target.num_chips)
    path = Path(_CACHE.value) / f"{_digest(lowered, target)}.json"
    if not path.exists():
        facts = {
            "target": target.name,
            "per_chip": _PER_CHIP.value,
            "mesh": dict(mesh.shape),
            "attention": lowered.attention,
            "extractor_bytes": lowered.extractor_bytes,
            "state_bytes": lowered.state_bytes,
            "label": _compile("label", lowered, target, path.with_suffix("")),
            "train": _compile("train", lowered, target, path.with_suffix("")),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(facts, indent=1))
        partial.rename(path)
    print(path)


def describe(target: Target) -> Any:
    """The devices of a target, which need not be there."""
    if target.chip.platform == "tpu":
        return topologies.get_topology_desc(
            platform="tpu", topology_name=target.topology
        )
    return topologies.get_topology_desc(
        platform="cuda", target_config=H100_CONFIG, topology=target.topology
    )


def _take_cudnn_for_granted() -> None:
    """JAX asks the library for its version when it traces; here there is none."""
    found = re.search(r"dnn_version_info { major: (\d+) minor: (\d+)", H100_CONFIG)
    assert found is not None
    major, minor = map(int, found.groups())
    version = 10_000 * major + 100 * minor
    fused_attention_stablehlo.check_cudnn_version = lambda: version


def _compile(half: str, lowered: Lowered, target: Target, path: Path) -> dict[str, Any]:
    """Memory and messages of one half; only "error" if it does not fit."""
    started, started_cpu = time.perf_counter(), time.process_time()
    try:
        compiled = getattr(lowered, half).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return {"error": str(error)[:2000]}
    seconds = time.perf_counter() - started
    memory = compiled.memory_analysis()
    text = compiled.as_text()
    path.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{path}.{half}.hlo").write_text(text)
    found = hlo.collectives(text, num_chips=target.num_chips)
    return {
        "seconds": seconds,
        "cpu_seconds": time.process_time() - started_cpu,
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
        "alias_bytes": memory.alias_size_in_bytes,
        "temp_bytes": memory.temp_size_in_bytes,
        "code_bytes": memory.generated_code_size_in_bytes,
        "collective_bytes": hlo.by_kind(found),
        "wire_bytes": sum(each.wire for each in found),
        "hbm_traffic": hlo.hbm_traffic(text),
        "recomputed_by_compiler": hlo.recomputed_by_compiler(text),
        "gathers": [e._asdict() for e in found if e.kind == "all-gather"],
        "activation_gathers": [
            each._asdict()
            for each in hlo.activation_gathers(found, lowered.param_shapes)
        ],
    }


def _digest(lowered: Lowered, target: Target) -> str:
    """Of the programs, the target and the compilers."""
    digest = hashlib.sha256()
    for part in (lowered.label.as_text(), lowered.train.as_text(), repr(target)):
        digest.update(part.encode())
    digest.update(jax.__version__.encode())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "target", "per_chip", "cache"])
    sys.exit(app.run(main, argv=other_words()))
