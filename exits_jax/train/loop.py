"""The training loop: the only code with a clock."""

import contextlib
import logging
from collections.abc import Callable
from typing import NamedTuple

from jax.sharding import Mesh

from exits_jax.batch import Batch
from exits_jax.train.checkpoints import Checkpoints, InputPosition
from exits_jax.train.feed import Input, device_batches, unreadable_counter
from exits_jax.train.metric_log import MetricLog
from exits_jax.train.objectives import Metrics
from exits_jax.train.state import TrainState
from exits_jax.train.stopping import Preempted, StopRequests
from exits_jax.train.window import UNREADABLE, Window

_logger = logging.getLogger(__name__)

StepFn = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


class InputChanged(ValueError):
    """A checkpoint that was made with another input than the run's."""


class Cadence(NamedTuple):
    """How long a run is, and how often it does what, in steps."""

    num_steps: int
    checkpoint_every: int
    log_every: int
    max_bad_steps: int = 10  # that a run may skip
    max_unreadable: float = 1.0  # share of the rows between two log lines


def fit(
    state: TrainState,
    *,
    step_fn: StepFn,
    source: Input,
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
        step_fn: One step, which may donate the state. One that is not finite must
            leave it as it was and report the metric "optimizer/skipped".
        source: What to learn from.
        cadence: Length and rhythm.
        checkpoints: Where the run is saved.
        mesh: Devices of the run.
        workdir: Folder of the metrics.
        run: Name of the run in the metrics.

    Raises:
        CheckpointError: If checkpoints cannot be read or written.
        FloatingPointError: If more steps than allowed were not finite; names the step
            and its annotations; or if all were not. Nothing that is not finite is
            saved.
        InputChanged: If a checkpoint was made with another input.
        KeyboardInterrupt: After SIGINT; after the first, the state has been saved.
        Preempted: After SIGTERM; the state has been saved.
        TooManyUnreadable: If more images than allowed cannot be read any more.
        UnknownMetric: If the run has no metric of the name by which to know the best.
    """
    skipped_steps = 0
    if checkpoints.latest_step is not None:
        state, found, skipped_steps = checkpoints.restore(state)
        _check_same_input(found, source.position, run)
    start = int(state.step)
    if start >= cadence.num_steps:
        _refuse_standstill(run, skipped_steps, start)
        return state
    if start:
        _logger.info("%s: going on from step %d", run, start)
    rows_per_step = source.position.global_batch
    window = Window(
        run,
        images_per_step=rows_per_step,
        length=cadence.log_every,
        ids_of_step=source.ids_of_step,
        max_bad_steps=cadence.max_bad_steps,
        max_unreadable=cadence.max_unreadable,
        skipped_steps=skipped_steps,
    )

    with contextlib.ExitStack() as stack:
        log = MetricLog(workdir, run, first_step=start, total=cadence.num_steps)
        stack.callback(log.close)
        rows = source.open(start)
        stack.callback(getattr(rows, "close", lambda: None))
        batches = device_batches(rows, mesh, run=run, source=source)
        count_unreadable = unreadable_counter(mesh)
        stops = stack.enter_context(StopRequests(run))

        def save(state: TrainState, done: int, *, wait: bool = False) -> None:
            # Rows of steps that are saved would not come again after a crash.
            if len(window) >= (1 if wait else cadence.log_every):
                log.write(done, window.flush())
            best = checkpoints.best_metric
            checkpoints.save(
                state,
                source.position._replace(next_sample=done * rows_per_step),
                skipped_steps=window.skipped_steps,
                metric=window.recent(best) if best else None,
                wait=wait,
            )

        done = start
        while done < cadence.num_steps and not stops.is_due():
            batch = next(batches)
            if done == start:
                log.doing("compiling")
            state, metrics = step_fn(state, batch)
            if "index" in batch:
                metrics = metrics | {UNREADABLE: count_unreadable(batch)}
            if len(window) >= cadence.log_every:
                log.write(done, window.flush())
            window.add(done, metrics)
            log.advance()
            done += 1
            if done % cadence.checkpoint_every == 0 and done < cadence.num_steps:
                save(state, done)
        if done > start:
            save(state, done, wait=True)
        # Where it came in the last step, what would follow the run must not begin.
        if stops.is_due():
            said = f"{run} was asked to stop and is saved at step {done}."
            if stops.is_interrupt:
                _logger.info("%s", said)
                raise KeyboardInterrupt(said)
            raise Preempted(said)
    _refuse_standstill(run, window.skipped_steps, done)
    return state


def _refuse_standstill(run: str, skipped_steps: int, steps: int) -> None:
    """Raises FloatingPointError if a run has learnt nothing."""
    if skipped_steps and skipped_steps == steps:
        raise FloatingPointError(
            f"{run}: all of its {steps} steps were skipped, as losses or gradients "
            "were not finite. Look at the weights that it starts from, or try "
            "model.dtype=float32, in another --workdir."
        )


def _check_same_input(found: InputPosition, wanted: InputPosition, run: str) -> None:
    if found._replace(next_sample=0) != wanted._replace(next_sample=0):
        raise InputChanged(
            f"The checkpoint of {run} was made with another input ({found}); this "
            f"run has {wanted}. Use another --workdir, or restore batch size, seed and "
            "annotations."
        )
