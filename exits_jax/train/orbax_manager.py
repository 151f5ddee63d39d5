"""Orbax, made to work beside a loop that handles signals and faults itself."""

import logging
import math
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import (
    AnyPreservationPolicy,
    BestN,
    LatestN,
    PreservationPolicy,
)

from exits_jax.files.seals import Damaged
from exits_jax.train.agreement import all_agree
from exits_jax.train.checkpoint_seals import seal_unfinished


class Manager(ocp.CheckpointManager):
    """Leaves the question whether to stop to the training loop.

    The runtime agrees on the step to stop at by the numbers that it is asked with.
    Orbax asks too, with its own numbers and from other threads, and so would make it
    miss that step.
    """

    def reached_preemption(self, step: int) -> bool:
        """No; see above."""
        return False


def open_manager(
    folder: Path, *, keep: int, best_metric: str, keep_best: int
) -> Manager:
    """Of the checkpoints in a folder; removes what interrupted writes left there.

    Args:
        folder: Made if it does not exist.
        keep: How many of the newest stay.
        best_metric: Name of a metric, the lower the better; "": none.
        keep_best: How many with the lowest `best_metric` stay besides.
    """
    policies: list[PreservationPolicy] = [LatestN(keep)]
    options: dict[str, Any] = {}
    if best_metric:
        value = lambda metrics: metrics.get(best_metric, math.inf)
        policies.append(
            BestN(
                get_metric_fn=value,
                reverse=True,
                n=keep_best,
                keep_checkpoints_without_metrics=False,
            )
        )
        options = {"best_fn": value, "best_mode": "min"}
    return Manager(
        folder,
        item_names=("params", "teacher", "optimizer", "input"),
        options=ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy(policies),
            cleanup_tmp_directories=True,
            enable_async_checkpointing=True,
            async_options=ocp.AsyncOptions(
                post_finalization_callback=partial(seal_unfinished, folder)
            ),
            **options,
        ),
    )


def fault_of(action: Callable[[], object]) -> str | None:
    """Does it; in words, what went wrong in this process or in another."""
    fault = None
    try:
        action()
    except (jax.errors.JaxRuntimeError, MemoryError):
        raise  # of the device or of this process, not of a file
    except Exception as error:  # orbax raises all kinds, `Exception` itself among them
        fault = words_of(error)
    if not all_agree(fault is None) and fault is None:
        return "another process failed"
    return fault


def words_of(error: Exception) -> str:
    """An error of orbax in one line, without what is of use to its authors alone."""
    cause = error.__cause__ or error
    if isinstance(cause, Damaged):
        return str(cause).removesuffix(".")
    text = str(cause).partition(" [tensorstore_spec")[0].partition(" [source")[0]
    return f"{type(cause).__name__}: {' '.join(text.split())[:400]}"


class _NotTwice(logging.Filter):
    """Drops tracebacks that orbax prints: the errors are raised too, and said here."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to print it."""
        trace = record.exc_info[2] if record.exc_info else None
        frames = traceback.walk_tb(trace)
        return not any("orbax" in frame.f_code.co_filename for frame, _ in frames)


for _name in ("absl", "asyncio"):
    logging.getLogger(_name).addFilter(_NotTwice())
