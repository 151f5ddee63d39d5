"""Requests to stop, granted between two steps."""

import contextlib
import itertools
import logging
import signal
from typing import Any

import jax
from jax.experimental import multihost_utils

from exits_jax.train.termination import runtime_handles

_logger = logging.getLogger(__name__)

# The processes of a pod agree on the number of a call at which all of them stop, which
# is why all calls of a process are counted, over all its runs.
_calls = itertools.count(1)

_NOBODYS = (signal.default_int_handler, signal.SIG_DFL, signal.SIG_IGN)


class Preempted(Exception):
    """The run was asked to stop; its state is saved and a restart goes on from it."""


class StopRequests:
    """Turns SIGTERM and the first SIGINT into a request; a second SIGINT interrupts.

    Where several processes run, the runtime of `jax.distributed` takes SIGTERM, tells
    the others and has all of them stop after the same step.
    """

    def __init__(self, run: str):
        """Handles signals only as a context."""
        self.is_interrupt = False
        self._run = run
        self._is_due = False
        self._before: dict[int, Any] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "StopRequests":
        """Takes over the signals, where this is the main thread.

        A program around this one that handles SIGINT itself goes on doing so.
        """
        handlers: dict[int, Any] = {}
        if signal.getsignal(signal.SIGINT) in _NOBODYS:
            handlers[signal.SIGINT] = self._interrupt
        if jax.process_count() == 1:
            handlers[signal.SIGTERM] = self._request
        else:
            self._stack.enter_context(runtime_handles())
        for number, handler in handlers.items():
            try:
                self._before[number] = signal.signal(number, handler)
            except ValueError:  # not in the main thread, which handles signals
                pass
        return self

    def __exit__(self, *_) -> None:
        """Gives the signals back."""
        self._stack.close()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def is_due(self) -> bool:
        """Whether to stop after this step; every process asks after every step."""
        if jax.process_count() > 1:
            reached = multihost_utils.reached_preemption_sync_point(next(_calls))
            self._is_due = self._is_due or reached
        return self._is_due

    def _request(self, *_) -> None:
        self._is_due = True

    def _interrupt(self, *_) -> None:
        if self.is_interrupt:
            raise KeyboardInterrupt
        self.is_interrupt = True
        _logger.warning(
            "%s: stopping after this step. Once more to stop at once.", self._run
        )
        if jax.process_count() > 1:
            signal.raise_signal(signal.SIGTERM)  # for all processes
        else:
            self._is_due = True
