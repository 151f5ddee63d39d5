"""The walk of a run: whose attention it follows, and whether that knows objects."""

import logging
from contextlib import closing
from functools import partial

import jax
import jax.numpy as jnp
import ml_collections as mlc
import numpy as np
from jaxtyping import Array, Float

from exits_jax.batch import Batch
from exits_jax.data.batches import label_batches
from exits_jax.data.table import Instances
from exits_jax.models.params import Params, bind
from exits_jax.models.walk import walk_map
from exits_jax.ops.clicks import Clicks
from exits_jax.ops.held_out import touch_check
from exits_jax.ops.walk import walk_probability
from exits_jax.run.from_config import (
    crop_options,
    extractor_graph,
    image_stats,
    walk_options,
)
from exits_jax.train.objectives import normalise
from exits_jax.train.prompts import clicks_of

_logger = logging.getLogger(__name__)
NUM_CHECKED = 128  # objects
BATCH = 16
BETTER = 0.03  # than geometry: about three standard errors on so many objects
_NEAR = 0.1  # scale of nearness, share of the crop's side


def check_walk(config: mlc.ConfigDict, encoder: Params, objects: Instances) -> None:
    """Says how well held-out clicks are found; warns where attention knows no objects.

    One click after the other is hidden, and its place on the side of the box looked
    for in what the walk from the others finds. The same walk by the nearness of
    patches, and with all patches alike, is what attention has to be better than. No
    mask is read.
    """
    with_points = objects.select(objects.has_points)
    if not with_points:
        return
    chosen = np.unique(np.linspace(0, len(with_points) - 1, NUM_CHECKED).astype(int))
    graph = extractor_graph(config)
    check = jax.jit(partial(_checks, config, graph))
    found = []
    batches = label_batches(
        with_points.select(chosen),
        crop_options(config),
        batch=BATCH,
        num_threads=config.data.num_threads,
        skip_unreadable=True,
    )
    with closing(batches):
        for rows in batches:
            found.append(np.asarray(check(encoder, rows))[rows["valid"]])
    checked = np.concatenate(found)
    if not len(checked):
        return  # no image can be read: who makes the masks says so
    by_attention, *by_geometry = checked.mean(axis=0).tolist()
    said = (
        f"held-out clicks are found on their side of the box in {by_attention:.1%} by "
        f"the encoder's attention, in {max(by_geometry):.1%} by geometry alone"
    )
    if by_attention < max(by_geometry) + BETTER:
        _logger.warning(
            "%s: this encoder does not know objects, and what its walk finds is the "
            "geometry of the clicks. Use one that was trained on images "
            "(init.encoder), or train one (pretrain.enabled).",
            said,
        )
    else:
        _logger.info("%s", said)


def _checks(
    config: mlc.ConfigDict, graph, encoder: Params, rows: Batch
) -> Float[Array, "b 3"]:
    """`touch_check`, mean over the four sides: by attention, nearness, and neither."""
    walk, clicks = walk_options(config), clicks_of(rows)
    size = rows["image"].shape[1]
    image = normalise(rows["image"], image_stats(config))
    near = _nearness(size // config.model.patch_size)
    near = jnp.broadcast_to(near[None], (image.shape[0], *near.shape))
    geometries = near, jnp.ones_like(near)
    checks = []
    for side in range(4):
        shown = jnp.broadcast_to(jnp.arange(4)[None] != side, (image.shape[0], 4))
        judge = partial(_judge, walk, clicks, side, size)
        found = walk_map(
            bind(graph, encoder), image, clicks, shown=shown, **walk._asdict()
        )
        alone = [
            walk_probability(
                x, None, clicks, crop_size=size, options=walk.options, shown=shown
            )
            for x in geometries
        ]
        checks.append(jnp.stack([judge(x) for x in (found, *alone)], axis=1))
    return jnp.stack(checks).mean(axis=0)


def _judge(walk, clicks: Clicks, side: int, size: int, found: Array) -> Array:
    return touch_check(
        found,
        clicks,
        side=side,
        crop_size=size,
        inward_margin=walk.options.inward_margin,
    )


def _nearness(grid: int) -> Float[Array, "p p"]:
    """A Gaussian of the distance of two patches: what a flat encoder can know."""
    at = (jnp.arange(grid) + 0.5) / grid
    along = jnp.exp(-((at[:, None] - at[None]) ** 2) / (2 * _NEAR**2))
    return jnp.kron(along, along)
