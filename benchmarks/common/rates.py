"""Samples per second of sources that take turns, so that a busy machine slows all."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol


class Closable(Iterator[object], Protocol):
    """Batches without end that can be told to stop."""

    def close(self) -> None:
        """Stops them."""
        ...


class Rates(NamedTuple):
    """Samples per second of one source, a value per round."""

    wall: list[float]  # per core: of the clock, divided by the number of processes
    cpu: list[float]  # of this process; says something only without workers


def measure(
    sources: dict[str, Callable[[], Closable]],
    *,
    rounds: int,
    seconds: float,
    batch: int,
    workers: int,
) -> dict[str, Rates]:
    """Draws from each source for a while, `rounds` times, each round in another order.

    Args:
        sources: Opens a source, by its name.
        rounds: Turns of each.
        seconds: Length of a turn.
        batch: Samples of a batch.
        workers: Processes of each source; 0: it works in this one.
    """
    rates = {name: Rates([], []) for name in sources}
    names = list(sources)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            batches = sources[name]()
            # What starts and what is made ahead would count as free.
            for _ in range(1 + 4 * workers):
                next(batches)
            start_s, start_cpu_s = time.perf_counter(), time.process_time()
            elapsed = count = 0
            while elapsed < seconds:
                next(batches)
                count += batch
                elapsed = time.perf_counter() - start_s
            rates[name].wall.append(count / elapsed / max(workers, 1))
            rates[name].cpu.append(count / (time.process_time() - start_cpu_s))
            batches.close()
    return rates


def table(rates: dict[str, Rates], reference: str, *, workers: int) -> str:
    """Rows of Markdown: rates, and times as a share of those of one of the sources."""
    lines = [
        "| source | samples/s per core, median | min to max | per CPU second | "
        f"time over {reference}, median of rounds | of CPU time |",
        "| --- " + "| ---: " * 5 + "|",
    ]
    for name, (wall, cpu) in rates.items():
        share = time_ratio(wall, rates[reference].wall)
        in_cpu, cpu_share = "-", "-"
        if not workers:
            in_cpu = f"{statistics.median(cpu):.1f}"
            cpu_share = f"{time_ratio(cpu, rates[reference].cpu):.2f}"
        lines.append(
            f"| {name} | {statistics.median(wall):.1f} | {min(wall):.1f} to "
            f"{max(wall):.1f} | {in_cpu} | {share:.2f} | {cpu_share} |"
        )
    return "\n".join(lines)


def time_ratio(rates: list[float], others: list[float]) -> float:
    """Median over the rounds of the time per sample, over that of another source."""
    return statistics.median(other / rate for rate, other in zip(rates, others))
