"""Waits for events, however slow the machine; the ceiling only ends what hangs."""

import time
from collections.abc import Callable, Sequence
from subprocess import Popen

CEILING_S = 1800.0


def wait_until(holds: Callable[[], object], processes: Sequence[Popen] = ()) -> None:
    """Returns as soon as it holds; fails if a process ends before."""
    deadline = time.monotonic() + CEILING_S
    while not holds():
        for process in processes:
            if process.poll() is not None:
                said = process.communicate()[0]
                raise AssertionError(f"It ended with {process.returncode}:\n{said}")
        assert time.monotonic() < deadline, "It did not come."
        time.sleep(0.002)
