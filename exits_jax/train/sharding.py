"""One mesh axis, `data`: parameters on every device, the batch split over them."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from exits_jax.train.objectives import Batch


def data_mesh() -> Mesh:
    """All devices of all processes along one axis named `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split_over_data(mesh: Mesh) -> NamedSharding:
    """Axis 0 divided among the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def shard_batch(mesh: Mesh, rows: dict[str, np.ndarray]) -> Batch:
    """This process's rows as its part of a global batch; the copy is asynchronous."""
    sharding = split_over_data(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in rows.items()
    }


def replicate(mesh: Mesh, tree: Any) -> Any:
    """A tree of host or device arrays, on every device."""
    return jax.device_put(tree, replicated(mesh))


def local_rows(array: jax.Array) -> np.ndarray:
    """The rows of a batch-sharded array that this process fed in, in order."""
    shards = sorted(
        array.addressable_shards, key=lambda shard: shard.index[0].start or 0
    )
    return np.concatenate([np.asarray(shard.data) for shard in shards])
