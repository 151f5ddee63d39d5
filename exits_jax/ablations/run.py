"""Runs the steps of rows, each once, and goes on where one fails."""

import shlex
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from exits_jax.ablations.rows import Row
from exits_jax.ablations.steps import Settings, Step, fill, is_done, mark_done, steps_of

Run = Callable[[list[str], Path], int]  # a command and its log, to its exit status
# Statuses of a command that was stopped from outside: by exits_jax.main, or by the
# signal itself where nothing handles it. Its own, and that of the driver.
STOPS = {75: 75, 130: 130, -15: 75, -2: 130}


class Stopped(Exception):
    """A step was stopped from outside; the same command goes on with it."""

    def __init__(self, status: int):
        """Holds the exit status of the driver."""
        super().__init__(f"status {status}")
        self.status = status


def run_rows(
    tables: dict[str, list[Row]],
    settings: Settings,
    *,
    run: Run,
    say: Callable[..., None] = print,
    after_row: Callable[[dict[str, str]], None],
) -> dict[str, str]:
    """Runs what is not done of every row.

    Args:
        tables: Rows of each table.
        settings: What they have in common.
        run: Runs one command.
        say: Prints a line.
        after_row: Called after each row with what failed so far.

    Returns:
        Rows that failed, and why.

    Raises:
        Stopped: If a command was stopped from outside.
    """
    faults: dict[str, str] = {}
    tried: dict[tuple[Path, str], str | None] = {}
    for table, rows in tables.items():
        for row in rows:
            if row.name != row.owner:
                say(f"{row.name}: the same run as {row.owner}")
            fault = _run_steps(steps_of(row, table, settings), tried, run, say)
            if fault is not None:
                faults[row.name] = fault
            after_row(faults)
    return faults


def commands(tables: dict[str, list[Row]], settings: Settings) -> Iterable[str]:
    """What `run_rows` would do, as lines of a shell with remarks."""
    said: set[tuple[Path, str]] = set()
    for table, rows in tables.items():
        for row in rows:
            equal = "" if row.name == row.owner else f", the same run as {row.owner}"
            yield f"# {row.name}{equal}"
            for step in steps_of(row, table, settings):
                once = (step.folder, step.key)
                if once in said:
                    continue
                said.add(once)
                if is_done(step):
                    yield f"# {step.title}: done before"
                    continue
                if step.source is not None and not step.folder.exists():
                    yield f"# {step.folder} starts as a copy of {step.source}"
                yield shlex.join(step.command)


def run_logged(command: list[str], log: Path) -> int:
    """Runs a command with its output at the end of a file; returns its exit status.

    Whatever ends the driver ends the command too, which saves its state first.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.write(f"$ {shlex.join(command)}\n")
        file.flush()
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise


def duration(seconds: float) -> str:
    """A time as a person says it."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _run_steps(
    steps: list[Step],
    tried: dict[tuple[Path, str], str | None],
    run: Run,
    say: Callable[..., None],
) -> str | None:
    """Runs the steps of a row up to the first that fails; returns what failed."""
    for step in steps:
        key = (step.folder, step.key)
        if key not in tried:
            tried[key] = _run_step(step, run, say)
        fault = tried[key]
        if fault is not None:
            return fault
    return None


def _run_step(step: Step, run: Run, say: Callable[..., None]) -> str | None:
    if is_done(step):
        say(f"{step.title} done before")
        return None
    fill(step)
    say(f"{step.title} ... ", end="", flush=True)
    start = time.monotonic()
    try:
        status = run(step.command, step.log)
    except BaseException:  # the driver was told to stop: ends the line that was begun
        say("stopped")
        raise
    took = duration(time.monotonic() - start)
    if status in STOPS:
        say(f"stopped after {took}")
        raise Stopped(STOPS[status])
    fault = None
    if status != 0:
        fault = f"{step.title}: status {status}: {_last_words(step.log)}"
    elif not step.makes.exists():
        fault = f"{step.title}: it ended well, but there is no {step.makes}"
    if fault is not None:
        say(f"failed after {took}\n  {fault}\n  all of it: {step.log}")
        return fault
    mark_done(step)
    say(took)
    return None


def _last_words(log: Path) -> str:
    """The error that a log ends with, or its last line."""
    lines = [line.strip() for line in _tail(log).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["it said nothing"])[-1]


def _tail(log: Path, size: int = 4000) -> str:
    """The end of a log, at most from where its last command starts."""
    if not log.exists():
        return ""
    text = log.read_text(errors="replace")[-size:]
    return text.rpartition("\n$ ")[2].partition("\n")[2] or text
