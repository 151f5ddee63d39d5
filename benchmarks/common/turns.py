"""Timing of things that take turns, so that a busy machine slows all of them alike."""

import os
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import jax


class Turn(NamedTuple):
    """One call: time on the clock, and time of all cores that worked for it."""

    wall_s: float
    cpu_s: float


def num_cores() -> int:
    """Cores this process may use: as many threads as XLA takes by itself."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def take_turns(
    calls: dict[str, Callable[[], object]], *, rounds: int
) -> dict[str, list[Turn]]:
    """Each call once untimed, then all of them in order, `rounds` times.

    Args:
        calls: What to time, by name. Arrays of JAX that a call returns are waited for.
        rounds: Turns of each call.
    """
    for call in calls.values():
        jax.block_until_ready(call())
    turns: dict[str, list[Turn]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            turns[name].append(timed(call))
    return turns


def timed(call: Callable[[], object]) -> Turn:
    """Calls once and waits for the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(call())
    return Turn(time.perf_counter() - wall, time.process_time() - cpu)


def median(turns: list[Turn]) -> Turn:
    """Median of both times, each for itself."""
    return Turn(*(statistics.median(times) for times in zip(*turns, strict=True)))


def ratio(turns: list[Turn], others: list[Turn]) -> Turn:
    """Median over the rounds of one call's time over another's in the same round."""
    pairs = list(zip(turns, others, strict=True))
    return Turn(
        *(
            statistics.median(a[kind] / b[kind] for a, b in pairs)
            for kind in range(len(Turn._fields))
        )
    )


def table(turns: dict[str, list[Turn]], *, unit: str = "ms") -> str:
    """Rows of Markdown: median, least and most on the clock, and CPU time."""
    scale = {"s": 1.0, "ms": 1e3}[unit]
    lines = [
        f"| what | median, {unit} | min to max | CPU, {unit} |",
        "| --- " * 4 + "|",
    ]
    for name, times in turns.items():
        middle = median(times)
        walls = [turn.wall_s * scale for turn in times]
        lines.append(
            f"| {name} | {middle.wall_s * scale:.3g} "
            f"| {min(walls):.3g} to {max(walls):.3g} | {middle.cpu_s * scale:.3g} |"
        )
    return "\n".join(lines)


def comparison(name: str, turns: list[Turn], others: list[Turn], target: str) -> str:
    """One line about a ratio and what is wanted of it."""
    found = ratio(turns, others)
    return (
        f"{name}: {found.wall_s:.3f} on the clock, {found.cpu_s:.3f} of CPU time "
        f"(median of pairs; wanted: {target})"
    )
