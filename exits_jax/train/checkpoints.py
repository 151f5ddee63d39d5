"""Checkpoints of a run: parameters, teacher, optimizer and the input position."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from exits_jax.models.params import Params
from exits_jax.train.state import TrainState


class InputPosition(NamedTuple):
    """Where the input stands.

    A sample is a function of (seed, epoch, index), so the global number of the next
    sample says it all, whatever the number of processes.
    """

    next_sample: int
    global_batch: int
    num_samples: int  # instances in an epoch
    seed: int


class Checkpoints:
    """The checkpoints in one folder, written in the background, the last few kept."""

    def __init__(self, folder: str | Path, *, keep: int = 2):
        self._manager = ocp.CheckpointManager(
            Path(folder).absolute(),
            item_names=("params", "teacher", "optimizer", "input"),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, enable_async_checkpointing=True
            ),
        )

    @property
    def latest_step(self) -> int | None:
        """Optimizer steps done in the newest complete checkpoint, if there is one."""
        return self._manager.latest_step()

    def save(self, state: TrainState, position: InputPosition) -> None:
        """Starts writing the state after `state.step` steps."""
        items: dict[str, Any] = {
            "params": ocp.args.StandardSave(state.params),
            "optimizer": ocp.args.StandardSave(state.opt_state),
            "input": ocp.args.JsonSave(position._asdict()),
        }
        if state.teacher_params is not None:
            items["teacher"] = ocp.args.StandardSave(state.teacher_params)
        self._manager.save(int(state.step), args=ocp.args.Composite(**items))

    def restore(self, like: TrainState) -> tuple[TrainState, InputPosition]:
        """The newest checkpoint, placed as `like` is, and its input position.

        Raises:
            FileNotFoundError: If there is none.
        """
        step = self._newest()
        restore = lambda tree: ocp.args.StandardRestore(_abstract(tree))
        items: dict[str, Any] = {
            "params": restore(like.params),
            "optimizer": restore(like.opt_state),
            "input": ocp.args.JsonRestore(),
        }
        if like.teacher_params is not None:
            items["teacher"] = restore(like.teacher_params)
        found = self._manager.restore(step, args=ocp.args.Composite(**items))
        state = TrainState(
            step=jax.device_put(jnp.asarray(step, jnp.int32), like.step.sharding),
            params=found["params"],
            teacher_params=found["teacher"] if "teacher" in items else None,
            opt_state=found["optimizer"],
        )
        return state, InputPosition(**found["input"])

    def restore_params(self, like: Params, *, which: str = "params") -> Params:
        """One tree of parameters of the newest checkpoint: "params" or "teacher"."""
        arguments = {which: ocp.args.StandardRestore(_abstract(like))}
        found = self._manager.restore(
            self._newest(), args=ocp.args.Composite(**arguments)
        )
        return found[which]

    def close(self) -> None:
        """Waits for what is still being written."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _newest(self) -> int:
        if self.latest_step is None:
            raise FileNotFoundError(f"No checkpoint in {self._manager.directory}.")
        return self.latest_step


def _abstract(tree: Any) -> Any:
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
