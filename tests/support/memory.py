"""How much memory this process takes while something runs."""

import contextlib
from pathlib import Path

_OWN = Path("/proc/self")


def _status(field):
    """A line of the process's status, bytes."""
    for line in (_OWN / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return 1024 * int(value.split()[0])
    raise AssertionError(field)


@contextlib.contextmanager
def grows_below(most):
    """Fails if the resident memory ever grew by more bytes within the block.

    The system keeps the peak, so that nothing between two looks is missed.
    """
    (_OWN / "clear_refs").write_text("5")  # the peak is now what is resident now
    before = _status("VmHWM")
    yield
    grown = _status("VmHWM") - before
    assert grown < most, f"{grown / 2**20:.0f} MiB more"
