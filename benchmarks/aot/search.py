"""Which compilers are here, and the largest batch that fits."""

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.aot.report import Facts, half_bytes
from benchmarks.aot.targets import ENVIRONMENT

_COMPILERS = {  # the folder in which one is kept apart, and its package
    "tpu": ("libtpu", "libtpu"),
    "cuda": ("cuda", "jax_cuda13_plugin"),
}


def compiler_of(platform: str) -> tuple[bool, dict[str, str]]:
    """Whether a platform's compiler is here, and variables with which it is found."""
    name, package = _COMPILERS[platform]
    if importlib.util.find_spec(package) is not None:
        return True, ENVIRONMENT
    folder = Path(sys.prefix) / name
    variables = {"PYTHONPATH": str(folder)}
    if platform == "cuda":  # ptxas and nvlink
        variables["PATH"] = str(folder / "nvidia" / "cu13" / "bin")
    joined = {
        name: os.pathsep.join(filter(None, [first, os.environ.get(name)]))
        for name, first in variables.items()
    }
    return folder.is_dir(), ENVIRONMENT | joined


def largest(compiled: Callable[[int], Facts], *, limit: float, first: int) -> Facts:
    """Facts of the largest batch per chip that fits.

    Args:
        compiled: Facts of a number of rows per chip; with "error" if it does not fit.
        limit: Bytes of HBM.
        first: Rows to begin with.

    Raises:
        ValueError: If not even one row fits.
    """
    fits: dict[int, Facts] = {}
    best, rows = 0, first
    too_large: int | None = None
    while too_large is None or best + 1 < too_large:
        facts = compiled(rows)
        if needs(facts) <= limit:
            fits[rows], best = facts, max(best, rows)
        else:
            too_large = min(rows, too_large or rows)
        rows = _prediction({n: needs(facts) for n, facts in fits.items()}, limit)
        if too_large is not None and rows >= too_large:
            rows = (best + too_large) // 2
        rows = max(rows, best + 1)
    if not best:
        raise ValueError(
            "Not even one row per chip fits: try model.remat or mesh.fsdp."
        )
    return fits[best]


def _prediction(needs: dict[int, float], limit: float) -> int:
    """The largest number of rows by a line through the last two of those that fit."""
    if not needs:
        return 1
    (near, less), (far, more) = ([(0, 0.0)] + sorted(needs.items()))[-2:]
    slope = max((more - less) / (far - near), 1.0)
    return far + int((limit - more) // slope)


def needs(facts: Facts) -> float:
    """Bytes of HBM; infinite where the compiler gave up."""
    if "error" in facts["label"] or "error" in facts["train"]:
        return float("inf")
    return max(half_bytes(facts, "label"), half_bytes(facts, "train"))
