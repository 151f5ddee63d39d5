"""Checkpoints of a run: parameters, teacher, optimizer and the input position."""

import contextlib
import json
import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from exits_jax.models.params import Params
from exits_jax.train.agreement import all_agree
from exits_jax.train.checkpoint_seals import refuse_damaged, unread_of
from exits_jax.train.orbax_manager import Manager, fault_of, open_manager, words_of
from exits_jax.train.state import TrainState

_logger = logging.getLogger(__name__)


class CheckpointError(Exception):
    """Checkpoints that cannot be read or written; says which, and why."""


class InputPosition(NamedTuple):
    """Where the input stands.

    A sample is a function of (seed, epoch, index), so the global number of the next
    sample says it all, whatever the number of processes.
    """

    next_sample: int
    global_batch: int
    num_samples: int  # instances in an epoch
    seed: int


class Saved(NamedTuple):
    """What a checkpoint holds."""

    state: TrainState
    position: InputPosition
    skipped_steps: int  # steps of the run that were not finite


class Checkpoints:
    """The checkpoints in one folder, written in the background, the best few kept."""

    def __init__(
        self,
        folder: str | Path,
        *,
        keep: int = 2,
        best_metric: str = "",
        keep_best: int = 1,
        strict: bool = False,
    ):
        """Opens or makes the folder; drops what an interrupted write left there.

        Args:
            folder: Where the checkpoints of one run are.
            keep: How many of the newest stay.
            best_metric: Name of a metric, the lower the better; "": none.
            keep_best: How many with the lowest `best_metric` stay besides.
            strict: Whether a broken newest checkpoint is an error, instead of being
                set aside for the one before.

        Raises:
            CheckpointError: If Orbax's own notes on a checkpoint are damaged.
        """
        self.best_metric = best_metric
        self._folder = Path(folder).absolute()
        self._keep, self._keep_best, self._strict = keep, keep_best, strict
        self._manager = self._open()

    @property
    def latest_step(self) -> int | None:
        """Optimizer steps done in the newest checkpoint, broken or not, if any."""
        return self._manager.latest_step()

    def save(
        self,
        state: TrainState,
        position: InputPosition,
        *,
        skipped_steps: int = 0,
        metric: float | None = None,
        wait: bool = False,
    ) -> None:
        """Starts writing the state after `state.step` steps.

        A write that fails, as on a full disk, is tried once more: at once, or by the
        next call where it failed in the background.

        Args:
            state: What to save.
            position: The input's, after these steps.
            skipped_steps: How many of the steps were skipped.
            metric: Value of `best_metric`; None: not known, so not among the best.
            wait: Whether to return only when all is written.

        Raises:
            CheckpointError: If it fails twice. Earlier checkpoints stay as they are.
        """
        step = int(state.step)
        items: dict[str, Any] = {
            "params": ocp.args.StandardSave(state.params),
            "optimizer": ocp.args.StandardSave(state.opt_state),
            "input": ocp.args.JsonSave(
                position._asdict() | {"skipped_steps": skipped_steps}
            ),
        }
        if state.teacher_params is not None:
            items["teacher"] = ocp.args.StandardSave(state.teacher_params)
        metrics = None if metric is None else {self.best_metric: metric}

        def write(wait: bool) -> None:
            arguments = ocp.args.Composite(**items)
            self._manager.save(step, args=arguments, metrics=metrics)
            if wait:
                self._manager.wait_until_finished()

        fault = fault_of(self._manager.wait_until_finished)
        if fault is None:
            fault = fault_of(lambda: write(wait))
        if fault is None:
            return
        _logger.warning(
            "A checkpoint in %s could not be written (%s). Trying once more, with "
            "step %d.",
            self._folder,
            fault,
            step,
        )
        fault_of(self._manager.close)
        self._manager = self._open()  # knows what is on the disk, removes the rest
        fault = fault_of(lambda: write(True))
        if fault is not None:
            raise CheckpointError(
                f"The checkpoint {step} in {self._folder} could not be written, twice: "
                f"{fault}. The checkpoints before it are intact; make room on the "
                "disk, then run the same command again."
            )

    def restore(self, like: TrainState) -> Saved:
        """The newest checkpoint that can be read, placed as `like` is.

        Newer ones that cannot be read, and older ones that are incomplete, are set
        aside: renamed to "STEP.broken", so that nothing deletes them and their steps
        can be saved again.

        Raises:
            FileNotFoundError: If there is none.
            CheckpointError: If none can be read, or, where `strict`, the newest cannot.
        """
        self._manager.wait_until_finished()
        self._newest()
        steps = sorted(self._manager.all_steps(), reverse=True)
        faults: dict[int, str] = {}
        found = None
        for step in steps:
            if found is None:
                found, fault = self._try(step, like)
            else:
                missing = self._missing(step, ("params", "optimizer"))
                fault = missing and f"{missing} is missing"
            if fault is not None:
                faults[step] = fault
        said = "\n  ".join(f"{step}: {fault}" for step, fault in faults.items())
        if found is None:
            raise CheckpointError(
                f"No checkpoint in {self._folder} can be read:\n  {said}\nBring back a "
                "copy, or remove the folder to train from the start."
            )
        if self._strict and steps[0] in faults:
            raise CheckpointError(
                f"The newest checkpoint in {self._folder} is broken:\n  {said}\nWith "
                "train.strict_resume=False the run goes on from checkpoint "
                f"{int(found.state.step)}."
            )
        self._set_aside(faults)
        return found

    def restore_params(
        self, like: Params, *, which: str = "params", best: bool = False
    ) -> Params:
        """One tree of parameters, of the newest checkpoint or of the best.

        Args:
            like: Their shapes, and where to place them.
            which: "params" or "teacher".
            best: Whether to take the checkpoint with the lowest `best_metric`.

        Raises:
            FileNotFoundError: If there is none.
            CheckpointError: If it cannot be read, or none has the metric.
        """
        self._manager.wait_until_finished()
        step = self._best() if best else self._newest()
        found, fault = self._read(step, {which: like})
        if fault is not None:
            raise CheckpointError(
                f"The checkpoint {self._folder / str(step)} cannot be read: {fault}. "
                "Bring back a copy, or rename it to use the one before."
            )
        return found[which]

    def close(self) -> None:
        """Waits for what is still being written.

        A run whose last write matters has waited for it; here something else may have
        failed, and another process may be gone.
        """
        try:
            self._manager.close()
        except Exception as error:
            _logger.warning(
                "The last checkpoint in %s was not written: %s",
                self._folder,
                words_of(error),
            )

    def _open(self) -> Manager:
        try:
            return open_manager(
                self._folder,
                keep=self._keep,
                best_metric=self.best_metric,
                keep_best=self._keep_best,
            )
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            # What Orbax reads of every checkpoint before any is asked for.
            named = unread_of(self._folder) or f"A file in {self._folder} is damaged"
            raise CheckpointError(
                f"{named}: {words_of(error)}. Bring back a copy, or rename its "
                "checkpoint to go on without it."
            ) from error

    def _newest(self) -> int:
        if self.latest_step is None:
            raise FileNotFoundError(f"No checkpoint in {self._folder}.")
        return self.latest_step

    def _best(self) -> int:
        self._newest()
        for step in self._manager.all_steps():
            folder = self._folder / str(step)
            fault = fault_of(partial(refuse_damaged, folder, ("metrics",)))
            if fault is not None:
                raise CheckpointError(
                    f"By {folder} it cannot be known which checkpoint is the best: "
                    f"{fault}. Bring back a copy, or rename it to choose among the "
                    "others."
                )
        step = self._manager.best_step() if self.best_metric else None
        metrics = None if step is None else self._manager.metrics(step)
        if step is None or self.best_metric not in (metrics or {}):
            raise CheckpointError(
                f"No checkpoint in {self._folder} was saved with a value of "
                f"train.best_metric = {self.best_metric!r}, by which the best is known."
            )
        return step

    def _try(self, step: int, like: TrainState) -> tuple[Saved | None, str | None]:
        """A checkpoint, or what is wrong with it."""
        trees = {"params": like.params, "optimizer": like.opt_state}
        if like.teacher_params is not None:
            trees["teacher"] = like.teacher_params
        found, fault = self._read(step, trees)
        if fault is not None:
            return None, fault
        notes = found["input"]
        skipped = notes.pop("skipped_steps", 0)
        state = TrainState(
            step=jax.device_put(jnp.asarray(step, jnp.int32), like.step.sharding),
            params=found["params"],
            teacher_params=found.get("teacher"),
            opt_state=found["optimizer"],
        )
        return Saved(state, InputPosition(**notes), skipped), None

    def _read(
        self, step: int, like: dict[str, Any]
    ) -> tuple[dict[str, Any], str | None]:
        """Trees and the notes on the input, or why this or another process has none.

        Done without the manager, which has a barrier in it: a process that cannot read
        its part would let the others wait there.
        """
        folder = self._manager.directory / str(step)
        found: dict[str, Any] = {}

        def read() -> None:
            missing = self._missing(step, like)
            if missing is not None:
                raise FileNotFoundError(f"{missing} is missing")
            refuse_damaged(self._folder / str(step), (*like, "input"))
            found["input"] = json.loads((folder / "input" / "metadata").read_text())
            for name, tree in like.items():
                with contextlib.closing(ocp.StandardCheckpointHandler()) as handler:
                    wanted = jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
                    arguments = ocp.args.StandardRestore(wanted)
                    found[name] = handler.restore(folder / name, args=arguments)

        return found, fault_of(read)

    def _missing(self, step: int, items: Iterable[str]) -> str | None:
        """A file that every complete checkpoint has and this one has not."""
        folder = self._folder / str(step)
        names = [f"{item}/_METADATA" for item in items]
        for name in ("_CHECKPOINT_METADATA", "input/metadata", *names):
            if not (folder / name).exists():
                return name
        return None

    def _set_aside(self, faults: dict[int, str]) -> None:
        for step, fault in faults.items():
            name = f"{step}.broken"
            if jax.process_index() == 0:
                taken = sum(1 for _ in self._folder.glob(f"{name}*"))
                name += f"-{taken + 1}" if taken else ""
                (self._folder / str(step)).rename(self._folder / name)
            _logger.warning(
                "The checkpoint %d in %s cannot be used and is now called %s: %s",
                step,
                self._folder,
                name,
                fault,
            )
        all_agree(True)  # none looks into the folder before the first is done
        self._manager.reload()
