"""How the rows of a batch are spread over devices, said from within a computation."""

from collections.abc import Callable

import jax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Shaped

AXES = ("data", "fsdp")  # of every mesh, see train/sharding.py
ROWS = P(AXES)


def keep_rows_split(x: Shaped[Array, "b ..."]) -> Shaped[Array, "b ..."]:
    """The same array, its rows where the batch has them.

    The partitioner is free to place what lies between inputs and outputs, and with
    split parameters it sometimes moves activations instead of weights. Without a mesh
    around (`jax.set_mesh`), or with rows that do not divide over it, nothing is said.
    """
    return jax.lax.with_sharding_constraint(x, ROWS) if _is_split(x) else x


def on_each_device(
    function: Callable[..., Array], *arrays: Shaped[Array, "b ..."]
) -> Shaped[Array, "b ..."]:
    """`function` of the rows of each device, on that device.

    For what the partitioner cannot split by itself: a loop over rows, a kernel. Without
    a mesh around, or with rows that do not divide over it, it is a plain call.

    Args:
        function: Gives rows for rows, each from its own alone.
        arrays: Of equally many rows.
    """
    if not _is_split(arrays[0]) or jax.sharding.get_abstract_mesh().size == 1:
        return function(*arrays)
    call = jax.shard_map(function, in_specs=ROWS, out_specs=ROWS, check_vma=False)
    return call(*arrays)


def _is_split(x: Array) -> bool:
    mesh = jax.sharding.get_abstract_mesh()
    return mesh.axis_names == AXES and x.shape[0] % mesh.size == 0
