"""How the rows of a batch are spread over devices, said from within a computation."""

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
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.axis_names != AXES or x.shape[0] % mesh.size:
        return x
    return jax.lax.with_sharding_constraint(x, ROWS)
