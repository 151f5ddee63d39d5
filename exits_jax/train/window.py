"""Metrics of a run between two log lines, and what is to be said about its steps."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence

import jax
import numpy as np

from exits_jax.train.objectives import Metrics

_logger = logging.getLogger(__name__)

SKIPPED = "optimizer/skipped"
UNREADABLE = "input/unreadable_rows"
MUST_BE_FINITE = ("loss/total", "optimizer/grad_norm")


class TooManyUnreadable(Exception):
    """More rows than allowed were masked, as their images cannot be read any more."""


class UnknownMetric(ValueError):
    """A name that no metric of the run has."""


class Window:
    """Metrics of the steps since the last log line, still on the device."""

    def __init__(
        self,
        run: str,
        *,
        images_per_step: int,
        length: int,
        ids_of_step: Callable[[int], Sequence],
        max_bad_steps: int,
        max_unreadable: float = 1.0,
        skipped_steps: int = 0,
    ):
        """Starts empty.

        Args:
            run: Name of the run.
            images_per_step: Rows of a step.
            length: Steps that `recent` looks back.
            ids_of_step: Annotation ids of the rows of a step.
            max_bad_steps: Skipped steps that a run may have.
            max_unreadable: Share of the rows of a window that may be masked, as their
                images cannot be read any more.
            skipped_steps: How many it has had.
        """
        self.skipped_steps = skipped_steps
        self._run = run
        self._images_per_step = images_per_step
        self._ids_of_step = ids_of_step
        self._max_bad_steps = max_bad_steps
        self._max_unreadable = max_unreadable
        self._on_device: list[tuple[int, Metrics]] = []
        self._rows: list[tuple[int, dict[str, float]]] = []  # fetched
        self._good: deque[dict[str, float]] = deque(maxlen=length)
        self._started = time.perf_counter()

    def __len__(self) -> int:
        """Steps since the last log line."""
        return len(self._rows) + len(self._on_device)

    def add(self, step: int, metrics: Metrics) -> None:
        """One more step, which may still be under way."""
        self._on_device.append((step, metrics))
        if len(self._on_device) > 2:  # keeps the device busy and memory bounded
            jax.block_until_ready(self._on_device[-3][1])

    def _settle(self) -> None:
        """Waits for the steps so far and judges them.

        Raises:
            FloatingPointError: If too many steps were skipped, or if one that is not
                finite was not.
        """
        fetched, self._on_device = jax.device_get(self._on_device), []
        for step, values in fetched:
            row = {name: float(value) for name, value in values.items()}
            self._rows.append((step, row))
            bad = [name for name in MUST_BE_FINITE if not _is_finite(row, name)]
            if row.get(SKIPPED):
                self._note_skipped(step, row)
            elif bad:
                raise FloatingPointError(
                    f"{self._run}: {bad[0]} is {row[bad[0]]} at step {step}, and the "
                    "step was not skipped. The checkpoints before it are intact; try "
                    "a lower learning rate."
                )
            else:
                self._good.append(row)

    def flush(self) -> dict[str, float]:
        """Means over the window without its skipped steps; then it is empty.

        Raises:
            FloatingPointError: If too many steps were skipped, or if one that is not
                finite was not.
            TooManyUnreadable: If too many rows were masked.
        """
        self._settle()
        rows = [row for _, row in self._rows]
        good = [row for row in rows if not row.get(SKIPPED)]
        names = [name for name in rows[0] if name not in (SKIPPED, UNREADABLE)]
        means = {
            name: float(np.mean([row[name] for row in good])) for name in names if good
        }
        if UNREADABLE in rows[0]:
            means[UNREADABLE] = float(sum(row[UNREADABLE] for row in rows))
            self._refuse_unreadable(means[UNREADABLE], len(rows))
        now = time.perf_counter()
        rate = len(rows) * self._images_per_step / max(now - self._started, 1e-9)
        self._rows, self._started = [], now
        return means | {
            "optimizer/skipped_steps": float(self.skipped_steps),
            "perf/images_per_s": rate,
        }

    def recent(self, name: str) -> float | None:
        """Mean of a metric over the last `length` good steps; None without any.

        Raises:
            FloatingPointError: As `flush`.
            UnknownMetric: If no metric is called so.
        """
        self._settle()
        if not self._good:
            return None
        if name not in self._good[-1]:
            raise UnknownMetric(
                f"train.best_metric = {name!r} is no metric of the run {self._run}; it "
                f"has {', '.join(sorted(self._good[-1]))}."
            )
        return float(np.mean([row[name] for row in self._good]))

    def _refuse_unreadable(self, num_unreadable: float, num_steps: int) -> None:
        total = num_steps * self._images_per_step
        if num_unreadable > self._max_unreadable * total:
            raise TooManyUnreadable(
                f"{self._run}: the images of {num_unreadable:.0f} of the last {total} "
                "crops cannot be read any more, above data.max_skip_fraction = "
                f"{self._max_unreadable:g}. The checkpoints before are intact; look "
                "at the storage, then run the same command again."
            )

    def _note_skipped(self, step: int, row: dict[str, float]) -> None:
        self.skipped_steps += 1
        ids = ", ".join(map(str, self._ids_of_step(step)))
        what = " and ".join(
            f"{name} is {row[name]}" for name in MUST_BE_FINITE if name in row
        )
        said = f"{self._run}: step {step} was skipped: {what}. Its annotations: {ids}."
        _logger.warning("%s", said)
        if self.skipped_steps > self._max_bad_steps:
            raise FloatingPointError(
                f"{said} With it {self.skipped_steps} steps were skipped, more than "
                f"train.max_bad_steps = {self._max_bad_steps}. The checkpoints before "
                "it are intact; look at these objects, or try a lower learning rate."
            )


def _is_finite(row: dict[str, float], name: str) -> bool:
    return math.isfinite(row.get(name, 0.0))
