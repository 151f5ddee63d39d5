"""From the facts of a compilation to memory, messages and a bound of the step time."""

from collections.abc import Iterable
from typing import Any

import ml_collections as mlc

from benchmarks.aot.hlo import KINDS
from benchmarks.aot.targets import Target
from benchmarks.flops import StepFlops

Facts = dict[str, Any]  # what benchmarks.aot.compile writes
HALVES = ("label", "train")


def half_bytes(facts: Facts, half: str) -> int:
    """Bytes of HBM per chip while one half runs, with what waits for the other."""
    own = facts[half]
    idle = facts["extractor_bytes" if half == "train" else "state_bytes"]
    code = sum(facts[each]["code_bytes"] for each in HALVES)
    arguments = own["argument_bytes"] + own["output_bytes"] - own["alias_bytes"]
    return arguments + own["temp_bytes"] + code + idle


def report(
    facts: Facts, target: Target, flops: StepFlops, config: mlc.ConfigDict
) -> dict[str, Any]:
    """All that is known about a step on a target, ready for JSON.

    The bound of the step time takes arithmetic, memory and messages to overlap
    perfectly within each half and every one to run at the peak of its unit.
    """
    chip, rows = target.chip, facts["per_chip"]
    share = {"label": flops.extractor + flops.retrieval}
    share["train"] = flops.hardware - share["label"]
    bounds = {}
    for half in HALVES:
        bounds[half] = {
            "compute": share[half] * rows / chip.bf16_flops,
            "hbm": facts[half]["hbm_traffic"] / chip.hbm_bandwidth,
            "links": facts[half]["wire_bytes"] / chip.link_bandwidth,
        }
    seconds = sum(max(bound.values()) for bound in bounds.values())
    return {
        "target": target.name,
        "chips": target.num_chips,
        "mesh": facts["mesh"],
        "remat": config.model.remat,
        "per_chip": rows,
        "hbm_bytes": max(half_bytes(facts, half) for half in HALVES),
        "hbm_limit": chip.hbm_bytes,
        "half_bytes": {half: half_bytes(facts, half) for half in HALVES},
        "code_bytes": sum(facts[half]["code_bytes"] for half in HALVES),
        "collective_bytes": {
            kind: total
            for kind in KINDS
            if (total := sum(_collective(facts, half, kind) for half in HALVES))
        },
        "wire_bytes": sum(facts[half]["wire_bytes"] for half in HALVES),
        "hbm_traffic": sum(facts[half]["hbm_traffic"] for half in HALVES),
        "model_flops": flops.model * rows,
        "hardware_flops": flops.hardware * rows,
        "bounds": bounds,
        "seconds": seconds,
        "images_per_second": rows * target.num_chips / seconds,
        "mfu": flops.model * rows / seconds / chip.bf16_flops,
        "peak_mfu": flops.model / flops.hardware,
        "rematerialisations": facts["rematerialisations"],
        "recomputed_by_compiler": facts["train"]["recomputed_by_compiler"],
        "activation_gather_bytes": sum(
            gather["bytes"] * gather["trips"]
            for half in HALVES
            for gather in facts[half]["activation_gathers"]
        ),
        "compile_cpu_seconds": sum(facts[half]["cpu_seconds"] for half in HALVES),
    }


def lines(result: dict[str, Any]) -> str:
    """A report to read."""
    gib, giga = 2**30, 1e9
    mesh = " x ".join(f"{axis} {size}" for axis, size in result["mesh"].items())
    found = [
        f"{result['target']}: {result['chips']} chips ({mesh}), "
        f"{result['per_chip']} rows per chip, remat {result['remat']}",
        f"HBM per chip: {result['hbm_bytes'] / gib:.2f} GiB of "
        f"{result['hbm_limit'] / gib:.2f} (code {result['code_bytes'] / gib:.2f})",
        f"messages per step and chip: {result['wire_bytes'] / giga:.3f} GB sent",
    ]
    for kind, total in result["collective_bytes"].items():
        found.append(f"  {kind}: {total / giga:.3f} GB of arrays")
    found.append(
        f"  gathers of activations: {result['activation_gather_bytes'] / giga:.6f} GB"
    )
    found.append(
        f"operations per step and chip: {result['model_flops'] / 1e12:.2f} TFLOP "
        f"({result['hardware_flops'] / 1e12:.2f} with what is computed twice)"
    )
    for half, bound in result["bounds"].items():
        each = ", ".join(
            f"{name} {1e3 * value:.1f} ms" for name, value in bound.items()
        )
        found.append(f"  {half}: {each}")
    found.append(
        f"estimate: {1e3 * result['seconds']:.1f} ms per step, "
        f"{result['images_per_second']:.0f} images/s, MFU {result['mfu']:.0%}"
    )
    found.append(
        f"warnings of rematerialisation: {result['rematerialisations']}; instructions "
        f"that the compiler computes twice: {result['recomputed_by_compiler']}"
    )
    return "\n".join(found)


def table(results: Iterable[dict[str, Any]]) -> str:
    """Markdown, a row per result."""
    head = (
        "| target | mesh (data x fsdp) | remat | images per chip | HBM per chip, GiB | "
        "all-reduce, MB | all-gather, MB | reduce-scatter, MB | permute, MB | "
        "TFLOP per chip | bound: compute / HBM / links, ms | images/s | MFU |\n"
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | "
        "---: | ---: |"
    )
    return "\n".join([head, *(_row(result) for result in results)])


def _row(result: dict[str, Any]) -> str:
    kinds = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute")
    sent = [f"{result['collective_bytes'].get(kind, 0) / 1e6:.0f}" for kind in kinds]
    bound = " / ".join(
        f"{1e3 * sum(half[unit] for half in result['bounds'].values()):.0f}"
        for unit in ("compute", "hbm", "links")
    )
    cells = [
        result["target"],
        " x ".join(str(size) for size in result["mesh"].values()),
        result["remat"],
        str(result["per_chip"]),
        f"{result['hbm_bytes'] / 2**30:.2f} of {result['hbm_limit'] / 2**30:.2f}",
        *sent,
        f"{result['model_flops'] / 1e12:.1f}",
        bound,
        f"{result['images_per_second']:.0f}",
        f"{result['mfu']:.0%}",
    ]
    return f"| {' | '.join(cells)} |"


def _collective(facts: Facts, half: str, kind: str) -> int:
    return facts[half]["collective_bytes"].get(kind, 0)
