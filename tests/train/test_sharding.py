import jax
import numpy as np

from exits_jax.train.sharding import (
    data_mesh,
    local_rows,
    replicate,
    shard_batch,
    split_over_data,
)


def test_the_mesh_has_every_device():
    assert dict(data_mesh().shape) == {"data": jax.device_count()} == {"data": 4}


def test_a_batch_is_split_in_order():
    rows = {"index": np.arange(8), "image": np.zeros((8, 2, 2, 3), np.uint8)}
    batch = shard_batch(data_mesh(), rows)
    for shard in batch["index"].addressable_shards:
        first = shard.index[0].start
        np.testing.assert_array_equal(shard.data, [first, first + 1])
    assert batch["image"].sharding == split_over_data(data_mesh())


def test_local_rows_undo_the_split():
    rows = {"a": np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)}
    np.testing.assert_array_equal(
        local_rows(shard_batch(data_mesh(), rows)["a"]), rows["a"]
    )


def test_parameters_are_on_every_device():
    tree = replicate(data_mesh(), {"w": np.ones(3, np.float32)})
    assert len(tree["w"].addressable_shards) == 4
    assert all(shard.data.shape == (3,) for shard in tree["w"].addressable_shards)
