"""What a run carries from step to step."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from exits_jax.models.params import Params


class TrainState(flax.struct.PyTreeNode):
    """Everything that a checkpoint must hold to resume a run exactly.

    There is no random key: every random number of a step comes from the seeds of the
    crops in its batch, which depend on (seed, epoch, index) alone.
    """

    # Any: trees of shapes and of placements have the same structure.
    step: Any  # int32 scalar
    params: Params
    teacher_params: Any  # Params; None for runs without a teacher
    opt_state: optax.OptState

    @classmethod
    def create(
        cls,
        params: Params,
        optimizer: optax.GradientTransformation,
        *,
        with_teacher: bool,
    ) -> "TrainState":
        """Starts a run; the teacher is a copy, as donated buffers cannot be shared."""
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            teacher_params=jax.tree.map(jnp.copy, params) if with_teacher else None,
            opt_state=optimizer.init(params),
        )
