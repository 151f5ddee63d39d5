import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from exits_jax.train.sharding import (
    local_rows,
    make_mesh,
    replicate,
    shard_batch,
    shardings,
    split_rows,
)

KERNEL = {"encoder": {"blocks": {"0": {"mlp": {"hidden": {"kernel": (8, 12)}}}}}}


@pytest.mark.parametrize(
    ("data", "fsdp", "shape"),
    [(-1, 1, (4, 1)), (2, -1, (2, 2)), (-1, 2, (2, 2)), (1, 4, (1, 4)), (2, 2, (2, 2))],
)
def test_a_mesh_has_every_device(data, fsdp, shape):
    assert make_mesh(data, fsdp).devices.shape == shape
    assert make_mesh(data, fsdp).axis_names == ("data", "fsdp")


@pytest.mark.parametrize(("data", "fsdp"), [(3, 1), (-1, 3), (-1, 0), (-1, -1), (2, 1)])
def test_sizes_that_do_not_multiply_to_the_devices_are_refused(data, fsdp):
    with pytest.raises(
        ValueError, match=f"mesh.data = {data} times mesh.fsdp = {fsdp}"
    ):
        make_mesh(data, fsdp)


@pytest.mark.parametrize("fsdp", [1, 2, 4])
def test_a_batch_is_split_in_order_over_both_axes(fsdp):
    mesh = make_mesh(fsdp=fsdp)
    rows = {"index": np.arange(8), "image": np.zeros((8, 2, 2, 3), np.uint8)}
    batch = shard_batch(mesh, rows)
    for shard in batch["index"].addressable_shards:
        first = shard.index[0].start
        np.testing.assert_array_equal(shard.data, [first, first + 1])
    assert batch["image"].sharding == split_rows(mesh)


def test_local_rows_undo_the_split():
    rows = {"a": np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)}
    batch = shard_batch(make_mesh(fsdp=2), rows)
    np.testing.assert_array_equal(local_rows(batch["a"]), rows["a"])


def test_replicated_parameters_are_on_every_device():
    tree = replicate(make_mesh(), {"w": np.ones(3, np.float32)})
    assert len(tree["w"].addressable_shards) == 4
    assert all(shard.data.shape == (3,) for shard in tree["w"].addressable_shards)


def _specs(tree, *, fsdp=2):
    shapes = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, np.float32),
        tree,
        is_leaf=lambda x: isinstance(x, tuple),
    )
    return jax.tree.map(lambda x: x.spec, shardings(make_mesh(fsdp=fsdp), shapes))


def test_the_wide_axis_of_a_pair_of_layers_is_split():
    block = {
        "attention": {"qkv": {"kernel": (8, 24)}, "projection": {"kernel": (8, 8)}},
        "mlp": {"hidden": {"kernel": (8, 32)}, "output": {"kernel": (32, 8)}},
    }
    wide = {
        "attention": {
            "qkv": {"kernel": P(None, "fsdp")},
            "projection": {"kernel": P("fsdp", None)},
        },
        "mlp": {
            "hidden": {"kernel": P(None, "fsdp")},
            "output": {"kernel": P("fsdp", None)},
        },
    }
    assert _specs(block) == wide


def test_what_is_small_is_whole():
    small = {"norm": {"scale": (8,), "bias": (8,)}, "class_token": (1, 1, 8)}
    assert set(jax.tree.leaves(_specs(small), is_leaf=lambda x: x == P())) == {P()}


def test_an_axis_that_does_not_divide_is_whole():
    assert _specs({"hidden": {"kernel": (8, 6)}}, fsdp=4) == {"hidden": {"kernel": P()}}


def test_moments_live_where_their_parameters_do():
    specs = _specs({"mu": KERNEL, "nu": KERNEL, "params": KERNEL})
    assert specs["mu"] == specs["nu"] == specs["params"]
    assert specs["mu"]["encoder"]["blocks"]["0"]["mlp"]["hidden"]["kernel"][1] == "fsdp"


def test_the_embedding_of_prompts_is_split_as_that_of_patches_is():
    specs = _specs(
        {
            "prompt": {
                "embedding": {"linear": {"kernel": (112, 8), "bias": (8,)}},
                "skip": {"linear": {"kernel": (7, 1)}},
            }
        }
    )["prompt"]
    assert specs["embedding"]["linear"] == {"kernel": P(None, "fsdp"), "bias": P()}
    assert specs["skip"]["linear"]["kernel"] == P()
