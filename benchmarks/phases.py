"""Where the CPU time of a whole run goes, phase by phase.

python -m benchmarks.phases --config=configs/quickstart.py --workdir=runs/timed

Runs what is not done in WORKDIR, as `exits-jax run` does, and prints a table. "start"
is what goes before the first phase: the imports above all.
"""

import os
import sys
from collections.abc import Callable, Sequence

from exits_jax import __main__ as console
from exits_jax import main as command


def main(words: Sequence[str]) -> int:
    """Runs as `exits-jax run` does, then prints; returns the exit status."""
    phases = command.PHASES.copy()
    seconds = {"start": _cpu_s()}
    for name, run in phases.items():
        command.PHASES[name] = _timed(name, run, seconds)
    try:
        status = console.console(["run", *words])
    finally:
        command.PHASES.update(phases)
    print(table(seconds))
    return status


def table(seconds: dict[str, float]) -> str:
    """Rows of Markdown, the sum last."""
    total = sum(seconds.values())
    lines = ["| phase | CPU, s | of all |", "| --- | --- | --- |"]
    for name, value in {**seconds, "all": total}.items():
        lines.append(f"| {name} | {value:.1f} | {value / total:.0%} |")
    return "\n".join(lines)


def _timed(name: str, run: Callable, seconds: dict[str, float]) -> Callable:
    def timed(*args):
        before = _cpu_s()
        result = run(*args)
        seconds[name] = _cpu_s() - before
        print(f"{name}: {seconds[name]:.1f} s of CPU", file=sys.stderr)
        return result

    return timed


def _cpu_s() -> float:
    """Of all cores, by this process and by its children that have ended."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
