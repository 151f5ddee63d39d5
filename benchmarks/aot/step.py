"""The two compiled calls of a training step, lowered from shapes: nothing is computed.

Made by `exits_jax/run/training.py` as for a real run, on any mesh: devices that are
only described by a topology do as well.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections as mlc
from jax.sharding import Mesh

from exits_jax.models.mask_decoder import DecoderConfig
from exits_jax.models.params import abstract_params
from exits_jax.ops.attention_choice import chosen
from exits_jax.phases.train import generator_loss
from exits_jax.run.from_config import (
    encoder_config,
    generator_builder,
    point_options,
    uses_stored_labels,
)
from exits_jax.run.training import label_call, stored_label_call, train_call
from exits_jax.train.optimizer import adamw, learning_rate
from exits_jax.train.sharding import shardings, split_rows
from exits_jax.train.state import TrainState


class Lowered(NamedTuple):
    """Both calls, and what stays on each chip while the other one runs."""

    label: jax.stages.Lowered
    train: jax.stages.Lowered
    extractor_bytes: int  # per chip, idle during `train`
    state_bytes: int  # per chip, idle during `label`
    param_shapes: list[tuple[int, ...]]  # of both networks, whole
    attention: str  # the way of `ops/attention.py` that was taken


def lower_step(config: mlc.ConfigDict, mesh: Mesh, *, rows: int) -> Lowered:
    """Lowers `label_step` and `train_step` of a configuration for a mesh.

    With `labels.stored` the first is the warp of the stored maps: no extractor.

    Args:
        config: The configuration; the method of its loss is "exits".
        mesh: Where the step would run.
        rows: Rows of the global batch.
    """
    optimizer, schedule = _optimizer(config)
    create = partial(TrainState.create, optimizer=optimizer, with_teacher=True)
    state = _placed(mesh, jax.eval_shape(create, _params(config, "generator")))
    batch = abstract_batch(config, mesh, rows=rows)
    options = point_options(config, {})
    if uses_stored_labels(config):
        extractor, label = {}, stored_label_call(config, mesh, options)
        label_arguments = (batch,)
    else:
        extractor = _placed(mesh, _params(config, "extractor")["encoder"])
        label = label_call(config, mesh, options)
        label_arguments = (extractor, batch)
    train = train_call(
        mesh,
        jax.tree.map(lambda leaf: leaf.sharding, state),
        loss_fn=generator_loss(config),
        optimizer=optimizer,
        schedule=schedule,
        teacher_decay=config.train.teacher_decay,
        num_parts=config.grad_accum,
    )
    encoder = encoder_config(config, role="generator")
    with jax.set_mesh(mesh):
        head_dim = encoder.dim // encoder.heads
        way = chosen(encoder.attention, dtype=encoder.dtype, head_dim=head_dim)
        lowered = label.lower(*label_arguments)
        labels, _ = lowered.out_info
        labels = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=split_rows(mesh)),
            labels,
        )
        learned = train.lower(state, batch | labels)
    params = jax.tree.leaves((state.params, extractor))
    return Lowered(
        lowered,
        learned,
        chip_bytes(extractor),
        chip_bytes(state),
        sorted({leaf.shape for leaf in params}),
        way,
    )


def abstract_batch(
    config: mlc.ConfigDict, mesh: Mesh, *, rows: int
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch of training samples, its rows split over the mesh."""
    side = config.crop.size
    of_row = {
        "image": ((side, side, 3), jnp.uint8),
        "student_image": ((side, side, 3), jnp.uint8),
        "extreme_points": ((4, 2), jnp.float32),
        "has_points": ((), jnp.bool_),
        "box": ((4,), jnp.float32),
        "valid_region": ((4,), jnp.float32),
        "box_area": ((), jnp.float32),
        "window": ((4,), jnp.int32),
        "seed": ((), jnp.uint32),
        "index": ((), jnp.int32),
        "valid": ((), jnp.bool_),
    }
    grid = side // config.model.patch_size
    if config.prompt.enabled and config.prompt.walk:
        of_row["walk"] = ((grid, grid), jnp.float32)
    if uses_stored_labels(config):
        mask = grid * DecoderConfig().mask_ratio
        of_row["stored_walk"] = ((grid, grid), jnp.uint8)
        of_row["stored_mask"] = ((mask, mask), jnp.uint8)
        of_row["label_region"] = ((4,), jnp.float32)
    return {
        name: jax.ShapeDtypeStruct((rows, *shape), dtype, sharding=split_rows(mesh))
        for name, (shape, dtype) in of_row.items()
    }


def chip_bytes(tree) -> int:
    """Bytes of a tree of placed shapes on the chip that holds most of them."""
    return sum(
        leaf.dtype.itemsize * _size(leaf.sharding.shard_shape(leaf.shape))
        for leaf in jax.tree.leaves(tree)
    )


def _optimizer(config: mlc.ConfigDict):
    """Optimizer and schedule; how long the run is makes no difference to the step."""
    schedule = learning_rate(peak=1e-4, num_steps=1000, warmup_steps=100)
    optimizer = adamw(
        schedule,
        betas=tuple(config.optimizer.betas),
        weight_decay=config.optimizer.weight_decay,
    )
    return optimizer, schedule


def _params(config: mlc.ConfigDict, role: str):
    return abstract_params(generator_builder(config, role=role))


def _placed(mesh: Mesh, tree):
    """Shapes with the sharding that the rules of the project give them."""
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=place
        ),
        tree,
        shardings(mesh, tree),
    )


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size
