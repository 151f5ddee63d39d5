"""The training loop: the only code with a clock."""

import contextlib
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from exits_jax.train.checkpoints import Checkpoints, InputPosition
from exits_jax.train.metric_log import MetricLog
from exits_jax.train.objectives import Batch, Metrics
from exits_jax.train.sharding import shard_batch
from exits_jax.train.state import TrainState

_logger = logging.getLogger(__name__)

StepFn = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
OpenInput = Callable[[int], Iterator[dict[str, np.ndarray]]]


class InputChanged(ValueError):
    """A checkpoint that was made with another input than the run's."""


class Preempted(Exception):
    """The run was asked to stop; its state is saved and a restart goes on from it."""


class Cadence(NamedTuple):
    """How long a run is, and how often it does what, in steps."""

    num_steps: int
    checkpoint_every: int
    log_every: int


def fit(
    state: TrainState,
    *,
    step_fn: StepFn,
    open_input: OpenInput,
    position: InputPosition,
    cadence: Cadence,
    checkpoints: Checkpoints,
    mesh: Mesh,
    workdir: str,
    run: str,
) -> TrainState:
    """Trains until `cadence.num_steps`, from the newest checkpoint if there is one.

    Metrics are averaged over the steps between two log lines and fetched one step
    late, so that the device never waits for the host.

    Args:
        state: The state of step 0, placed on the mesh; used up.
        step_fn: One step; it may donate the state.
        open_input: Given the first step, this process's rows of the batches from there.
        position: The input's shape; `next_sample` is ignored.
        cadence: Length and rhythm.
        checkpoints: Where the run is saved.
        mesh: Devices of the run.
        workdir: Folder of the metrics.
        run: Name of the run in the metrics.

    Raises:
        FloatingPointError: If a loss is not finite; the message names the step. What
            follows from it is never saved.
        InputChanged: If a checkpoint was made with another input.
        Preempted: After SIGTERM; the state has been saved.
    """
    if checkpoints.latest_step is not None:
        state, found = checkpoints.restore(state)
        _check_same_input(found, position, run)
        _logger.info("%s: going on from step %d", run, int(state.step))
    start = int(state.step)
    if start >= cadence.num_steps:
        return state
    at = lambda step: position._replace(next_sample=step * position.global_batch)
    window = _Window(position.global_batch)
    saved = start
    with contextlib.ExitStack() as stack:
        log = MetricLog(workdir, run, first_step=start, total=cadence.num_steps)
        stack.callback(log.close)
        batches = open_input(start)
        stack.callback(getattr(batches, "close", lambda: None))
        term = stack.enter_context(_StopOnTerm())
        for step in range(start, cadence.num_steps):
            batch = shard_batch(mesh, next(batches))
            state, metrics = step_fn(state, batch)
            log.advance()
            if len(window) >= cadence.log_every:
                log.write(step, window.flush(run))
            window.add(step, metrics)
            done = step + 1
            is_due = term.is_due(step)
            if done % cadence.checkpoint_every == 0 or is_due:
                window.check(run)
                checkpoints.save(state, at(done))
                saved = done
            if is_due:
                break
        done = int(state.step)
        log.write(done, window.flush(run))
        if saved != done:
            checkpoints.save(state, at(done))
    if term.requested:
        raise Preempted(f"{run} was asked to stop and is saved at step {done}.")
    return state


class _Window:
    """Metrics of the steps since the last log line, still on the device."""

    def __init__(self, images_per_step: int):
        self._images_per_step = images_per_step
        self._pending: list[tuple[int, Metrics]] = []
        self._started = time.perf_counter()

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, step: int, metrics: Metrics) -> None:
        self._pending.append((step, metrics))
        if len(self) > 2:  # a queue of two keeps the device busy and memory bounded
            jax.block_until_ready(self._pending[-3][1])

    def check(self, run: str) -> None:
        """Refuses a loss or a gradient that is not finite."""
        self._pending = [(step, jax.device_get(row)) for step, row in self._pending]
        for step, row in self._pending:
            for what in ("loss/total", "optimizer/grad_norm"):
                if not math.isfinite(row.get(what, 0.0)):
                    raise FloatingPointError(
                        f"{run}: {what} is {row[what]} at step {step}. The checkpoints "
                        "before it are intact; try a lower learning rate."
                    )

    def flush(self, run: str) -> dict[str, float]:
        """Means over the window, once it is checked."""
        self.check(run)
        rows = self._pending
        now = time.perf_counter()
        rate = len(rows) * self._images_per_step / max(now - self._started, 1e-9)
        means = {
            name: float(np.mean([row[name] for _, row in rows])) for name in rows[0][1]
        }
        self._pending, self._started = [], now
        return means | {"perf/images_per_s": rate}


class _StopOnTerm:
    """Turns SIGTERM into a request, so that the step under way ends and is saved.

    The processes of a pod must stop after the same step: there the runtime of
    `jax.distributed` takes the signal and names the step.
    """

    requested = False
    _before = None

    def __enter__(self) -> "_StopOnTerm":
        if jax.process_count() == 1:
            try:
                self._before = signal.signal(signal.SIGTERM, self._request)
            except ValueError:  # not in the main thread, which handles signals
                pass
        return self

    def __exit__(self, *_) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def is_due(self, step: int) -> bool:
        """Whether to stop after this step."""
        if jax.process_count() > 1:
            self.requested = multihost_utils.reached_preemption_sync_point(step)
        return self.requested

    def _request(self, *_) -> None:
        self.requested = True


def _check_same_input(found: InputPosition, wanted: InputPosition, run: str) -> None:
    if found._replace(next_sample=0) != wanted._replace(next_sample=0):
        raise InputChanged(
            f"The checkpoint of {run} was made with another input ({found}); this "
            f"run has {wanted}. Use another --workdir, or restore batch size, seed and "
            "annotations."
        )
