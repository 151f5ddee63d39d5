"""SIGTERM where no training loop waits for it: the process ends soon, to be restarted.

Whatever is under way can be killed at any moment, and the same command goes on from
there. What remains is to end with the status that clusters restart after.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

import jax

from exits_jax.exit_status import TRY_AGAIN
from exits_jax.train.leaving import leave

GRACE_S = 10.0  # for what is under way, as a compilation, that takes no exception
MARGIN_S = 2.0  # that the first of several processes waits longer
_WORDS = "Asked to stop (SIGTERM). Run the same command again to go on."
_runtimes: list[ctypes.Array] = []  # handlers of the runtime of several processes


class Stopped(BaseException):
    """Asked to stop; like KeyboardInterrupt, no handler of errors takes it."""

    def __init__(self) -> None:
        super().__init__(_WORDS)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """In the block, SIGTERM raises `Stopped`, or ends the process after `GRACE_S`.

    Where a program around this one handles the signal, it goes on doing so.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, None):
        yield
        return
    is_asked = False

    def stop(*_: object) -> None:
        nonlocal is_asked
        if not is_asked:
            is_asked = True
            raise Stopped

    before = _action()
    if jax.process_count() > 1:
        _runtimes.append(before)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    threading.Thread(target=_watch, args=(reader, stop), daemon=True).start()
    signal.signal(signal.SIGTERM, stop)
    others = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _set_action(before)
        signal.set_wakeup_fd(others)
        os.close(writer)  # ends the thread
        _runtimes.clear()


@contextlib.contextmanager
def runtime_handles() -> Iterator[None]:
    """In the block, the runtime of several processes has SIGTERM, as it wants to."""
    if not _runtimes:
        yield
        return
    ours = _action()
    _set_action(_runtimes[-1])
    try:
        yield
    finally:
        _set_action(ours)


def _watch(reader: int, handler: object) -> None:
    """Ends a process that was told to stop by `handler` and does not.

    The number of a signal comes here at once, also where Python's own handlers have to
    wait for the end of a long call.
    """
    with open(reader, "rb", buffering=0) as pipe:
        while numbers := pipe.read(64):
            if signal.SIGTERM not in numbers:
                continue
            if signal.getsignal(signal.SIGTERM) is not handler:
                continue  # somebody who has more to save
            time.sleep(GRACE_S)
            if signal.getsignal(signal.SIGTERM) is handler:
                print(f"error: {_WORDS}", file=sys.stderr, flush=True)
                leave(TRY_AGAIN, wait_s=MARGIN_S)


def _action() -> ctypes.Array:
    """The handler of SIGTERM, also one that Python knows nothing of."""
    found = ctypes.create_string_buffer(512)  # larger than any struct sigaction
    ctypes.CDLL(None).sigaction(int(signal.SIGTERM), None, found)
    return found


def _set_action(action: ctypes.Array) -> None:
    ctypes.CDLL(None).sigaction(int(signal.SIGTERM), action, None)
