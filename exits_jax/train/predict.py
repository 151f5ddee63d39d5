"""Mask logits of crops: by the generator, by the walk, or by both (Sec. 3.3).

Functions of parameters and arrays alone, to be compiled by whoever makes masks.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from exits_jax.batch import Batch
from exits_jax.models.params import Params, bind
from exits_jax.models.walk import walk_map
from exits_jax.ops.clicks import click_wedges
from exits_jax.ops.dense_crf import dense_mean_field, lab_of_nodes
from exits_jax.ops.losses import box_mask
from exits_jax.ops.resize import resize_map
from exits_jax.ops.walk import WalkOptions
from exits_jax.train.objectives import ImageStats, normalise
from exits_jax.train.prompts import clicks_of

SURE = 0.9  # probability of the cells that the clicks vouch for
_SUREST = 0.02  # the walk is taken for no surer than this, and 1 minus it
_CRFS_AT_ONCE = 4  # their kernels have the fourth power of the grid's side
_LEAST = 1e-4  # probability, so that logits are finite


class Walk(NamedTuple):
    """Which encoder's attention the walk follows, and how."""

    layers: tuple[int, ...]
    feature_block: int
    options: WalkOptions


class DenseCrf(NamedTuple):
    """Options of `dense_mean_field`; see `configs/base.py`."""

    grid: int
    num_rounds: int
    colour_weight: float
    position_scale: float
    colour_scale: float
    smooth_weight: float
    smooth_scale: float


def walk_of(
    graph: nnx.GraphDef,
    encoder: Params,
    batch: Batch,
    *,
    stats: ImageStats,
    walk: Walk,
) -> Float[Array, "b n n"]:
    """Probability of each patch, from an encoder's attention and the clicks."""
    return walk_map(
        bind(graph, encoder),
        normalise(batch["image"], stats),
        clicks_of(batch),
        layers=walk.layers,
        feature_block=walk.feature_block,
        options=walk.options,
    )


def fused_logits(
    logits: Float[Array, "b m m"],
    of_walk: Float[Array, "b k k"],
    *,
    walk_weight: float,
) -> Float[Array, "b m m"]:
    """Generator and walk as one: the sum of their logits.

    Args:
        logits: Of the generator.
        of_walk: Of the walk, refined or not; bounded here as `walk_logits` bounds them.
        walk_weight: Their weight.
    """
    bound = math.log((1 - _SUREST) / _SUREST)
    of_walk = jnp.clip(resize_map(of_walk, *logits.shape[1:]), -bound, bound)
    return logits + walk_weight * of_walk


def walk_logits(walk: Float[Array, "b n n"]) -> Float[Array, "b n n"]:
    """Logits of the walk's probabilities, bounded."""
    return jax.scipy.special.logit(jnp.clip(walk, _SUREST, 1 - _SUREST))


def refined_logits(
    logits: Float[Array, "b m m"],
    batch: Batch,
    *,
    crf: DenseCrf | None,
    click_depth: float,
    cut: float,
) -> Float[Array, "b k k"]:
    """Logits after the dense CRF, with the clicks and what lies behind them inside.

    Args:
        logits: Of any source, on a grid over the crop.
        batch: The crops and their annotations.
        crf: None leaves the logits as they are, but for the clicks.
        click_depth: See `ops.clicks.click_wedges`.
        cut: Probability at which a mask will be cut, above which clicks must be.
    """
    crop_size = batch["image"].shape[1]
    grid = logits.shape[1] if crf is None else crf.grid
    clicks = clicks_of(batch)
    wedges = click_wedges(
        clicks.extreme_points,
        clicks.has_points,
        clicks.box,
        crop_size=crop_size,
        grid=grid,
        depth=click_depth,
    )
    sure = max(SURE, (1 + cut) / 2)
    probability = jax.nn.sigmoid(resize_map(logits, grid, grid))
    probability = jnp.where(wedges, jnp.maximum(probability, sure), probability)
    if crf is not None:
        inside = box_mask(clicks.box, crop_size=crop_size, mask_size=grid)
        pixels = batch["image"].astype(jnp.float32) / 255
        refine = partial(_dense_crf, crf=crf)
        nodes = lab_of_nodes(pixels, grid), probability, inside
        probability = jax.lax.map(refine, nodes, batch_size=_CRFS_AT_ONCE)
        probability = jnp.where(wedges, jnp.maximum(probability, sure), probability)
    return jax.scipy.special.logit(jnp.clip(probability, _LEAST, 1 - _LEAST))


def _dense_crf(nodes: tuple[Array, Array, Array], *, crf: DenseCrf) -> Array:
    """One crop's mean field: `jax.lax.map` takes away the axis of the batch."""
    lab, probability, inside = (x[None] for x in nodes)
    options = {name: value for name, value in crf._asdict().items() if name != "grid"}
    return dense_mean_field(lab, probability, inside, **options)[0]
