"""Where arrays live: a mesh of two axes, `data` and `fsdp`, and the rules for both.

The rows of a batch are split over both axes. Parameters, teacher and optimizer are
split over `fsdp` alone and repeated along `data`, so `fsdp=1` keeps all of them whole
on every device. `fsdp` comes last: its devices are each other's nearest neighbours.
"""

import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from exits_jax.batch import Batch
from exits_jax.ops.placement import AXES, ROWS

# The first rule whose pattern is found in the path of a leaf names the axis of it that
# is split: the wide one of each pair of layers, so that both gather the same slices.
RULES: tuple[tuple[str, P], ...] = (
    (r"(qkv|hidden)/kernel$", P(None, "fsdp")),
    (r"(projection|output)/kernel$", P("fsdp", None)),
    (r"(convs|patch_embedding)/.*kernel$", P(None, None, None, "fsdp")),
    (r"position_table$|prompt/embedding/linear/kernel$", P(None, "fsdp")),
    (r"", P()),  # biases, norms, counters: too small to be worth a message
)


def make_mesh(
    data: int = -1, fsdp: int = 1, devices: Sequence[Any] | None = None
) -> Mesh:
    """Devices along the axes `data` and `fsdp`.

    Args:
        data: Size of the axis over which the batch alone is split; -1: all that `fsdp`
            leaves.
        fsdp: Size of the axis over which parameters are split too; -1: likewise.
        devices: Which devices; by default all of all processes.

    Raises:
        ValueError: If the sizes do not multiply to the number of devices.
    """
    count = jax.device_count() if devices is None else len(devices)
    sizes = [data, fsdp]
    if sizes.count(-1) == 1:
        other = sizes[1 - sizes.index(-1)]
        sizes[sizes.index(-1)] = count // other if other > 0 else 0
    if min(sizes) < 1 or sizes[0] * sizes[1] != count:
        raise ValueError(
            f"mesh.data = {data} times mesh.fsdp = {fsdp} must be the number of "
            f"devices, {count}; -1 in one of them stands for the rest."
        )
    return jax.make_mesh(
        tuple(sizes), AXES, axis_types=(AxisType.Auto,) * 2, devices=devices
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, P())


def split_rows(mesh: Mesh) -> NamedSharding:
    """Axis 0 divided among all devices."""
    return NamedSharding(mesh, ROWS)


def shardings(mesh: Mesh, tree: Any) -> Any:
    """Where each leaf of a tree of parameters, or of what follows them, lives.

    Optimizer moments and teacher have the paths of the parameters at their end, so one
    table does for a whole training state. An axis that `fsdp` does not divide stays
    whole.

    Args:
        mesh: From `make_mesh`.
        tree: Anything whose leaves have a shape.
    """

    def place(path, leaf) -> NamedSharding:
        name = "/".join(_key(entry) for entry in path)
        spec = next(spec for pattern, spec in RULES if re.search(pattern, name))
        size = mesh.shape["fsdp"]
        fits = len(spec) <= leaf.ndim and all(
            axis is None or leaf.shape[k] % size == 0 for k, axis in enumerate(spec)
        )
        return NamedSharding(mesh, spec if fits else P())

    return jax.tree_util.tree_map_with_path(place, tree)


def shard_batch(mesh: Mesh, rows: Batch) -> Batch:
    """This process's rows as its part of a global batch; the copy is asynchronous."""
    sharding = split_rows(mesh)
    put = lambda array: jax.make_array_from_process_local_data(sharding, array)
    return jax.tree.map(put, rows)


def replicate(mesh: Mesh, tree: Any) -> Any:
    """A tree of host or device arrays, on every device."""
    return jax.device_put(tree, replicated(mesh))


def host_copy(tree: Any) -> Any:
    """Arrays that this process has whole, replicated ones too, on the host."""
    here = lambda x: x.addressable_data(0) if isinstance(x, jax.Array) else x
    return jax.tree.map(lambda x: np.asarray(here(x)), tree)


def local_rows(array: jax.Array) -> np.ndarray:
    """The rows of a batch-sharded array that this process fed in, in order."""
    shards = sorted(
        array.addressable_shards, key=lambda shard: shard.index[0].start or 0
    )
    return np.concatenate([np.asarray(shard.data) for shard in shards])


def _key(entry: Any) -> str:
    """The name of one step of a path, whatever the kind of node it leads through."""
    for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    raise TypeError(f"A path of parameters cannot go through {entry!r}.")
