"""A process of another environment, run to its end."""

import signal
import subprocess


class ChildEnded(Exception):
    """The other process did not end well; it has said why."""

    def __init__(self, status: int):
        how = f"was ended by signal {-status}" if status < 0 else f"ended with {status}"
        super().__init__(f"Stage 2 {how}.")
        self.status = status


def run_child(arguments: list[str]) -> int:
    """Runs it to its end, and passes a SIGTERM on; returns its exit status."""
    with subprocess.Popen(arguments) as child:
        before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        try:
            return child.wait()
        except KeyboardInterrupt:
            return child.wait()  # the terminal has told it as well
        finally:
            signal.signal(signal.SIGTERM, before)
