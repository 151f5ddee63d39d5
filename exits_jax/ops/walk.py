"""Masks from the walk alone: four clicks and the attention of any encoder.

Beside the retrieval of the paper (`ops/retrieval.py`), which labels few points and is
sure of them, this gives every cell a probability: transitions between the most similar
cells alone, the ratio of the two scores instead of their difference, and the geometry
of the clicks beside them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from exits_jax.ops.clicks import (
    Clicks,
    click_discs,
    clicks_or_midpoints,
    polygon_depth,
)
from exits_jax.ops.points import initial_points
from exits_jax.ops.propagation import propagation_scores
from exits_jax.ops.ridge import ridge_probability
from exits_jax.ops.transition import transition_matrix

_FAINT = 1e-6  # of a transition that is left out, and of a score, in units of the mean
_FARTHEST = 4.0  # bound of the log ratio


class WalkOptions(NamedTuple):
    """How the walk becomes a probability; lengths are shares of the crop's side."""

    neighbours: float = 0.08  # share of all cells that each cell has transitions to
    num_rounds: int = 10  # of Sinkhorn
    num_hops: int = 4
    inward_margin: float = 0.047  # delta: 24 of 512 px
    disc_radius: float = 0.7  # of the discs around the clicks, in cells
    depth_weight: float = 1.0  # of the depth in the clicks' quadrilateral
    cut: float = 0.5  # log ratio and depth at which object and background are alike
    slope: float = 1.5  # of the probability there
    ridge_rounds: int = 3  # 0: no linear classifier
    ridge_shrinkage: float = 3.0
    ridge_keep: float = 0.5
    ridge_cut: float = 0.44  # probability after it at which both are alike


class Cells(NamedTuple):
    """Where a walk starts, and which cells it is to tell apart."""

    fg_start: Float[Array, "b p"]
    bg_start: Float[Array, "b p"]
    inside: Bool[Array, "b p"]  # cells that the box overlaps


def walk_probability(
    similarity: Float[Array, "b p p"],
    features: Float[Array, "b p d"] | None,
    clicks: Clicks,
    *,
    crop_size: int,
    options: WalkOptions,
    shown: Bool[Array, "b 4"] | None = None,
) -> Float[Array, "b n n"]:
    """Probability of each cell to belong to the object; 0.5 is the cut.

    Args:
        similarity: S, attention averaged over heads, as in Eq. (2).
        features: Patch features for `ridge_probability`; None goes without it.
        clicks: What was annotated.
        crop_size: Side of the crop, px.
        options: See `WalkOptions`.
        shown: False for clicks that are to be left out; None shows all.

    Returns:
        The probability, 0 in cells that the box does not overlap.
    """
    batch, num_cells, _ = similarity.shape
    grid = round(num_cells**0.5)
    all_shown = jnp.broadcast_to(clicks.has_points[:, None], (batch, 4))
    shown = all_shown if shown is None else all_shown & shown
    points = clicks_or_midpoints(clicks.extreme_points, shown, clicks.box)
    clicks = clicks._replace(extreme_points=points)
    cells = walk_cells(clicks, shown, crop_size=crop_size, grid=grid, options=options)
    sparse = nearest_transitions(similarity, share=options.neighbours)
    transition = transition_matrix(sparse, num_rounds=options.num_rounds)
    start = jnp.stack([cells.fg_start, cells.bg_start], axis=1)
    scores = propagation_scores(transition, start, num_hops=options.num_hops)
    depth = polygon_depth(points, clicks.box, crop_size=crop_size, grid=grid)
    depth = jnp.where(shown.any(axis=1, keepdims=True), depth.reshape(batch, -1), 0.0)
    evidence = log_ratio(scores) + options.depth_weight * depth
    found = jax.nn.sigmoid(options.slope * (evidence - options.cut))
    found = jnp.where(cells.inside, found, 0.0)
    if options.ridge_rounds and features is not None:
        found = ridge_probability(
            features,
            found,
            cells.inside,
            cells.bg_start > 0,
            shrinkage=options.ridge_shrinkage,
            num_rounds=options.ridge_rounds,
            keep=options.ridge_keep,
        )
        found = jnp.clip(found - options.ridge_cut + 0.5, 0.0, 1.0)
        found = jnp.where(cells.inside, found, 0.0)
    return found.reshape(batch, grid, grid)


def walk_cells(
    clicks: Clicks,
    shown: Bool[Array, "b 4"],
    *,
    crop_size: int,
    grid: int,
    options: WalkOptions,
) -> Cells:
    """Discs around the clicks that are shown; around all four places where none is."""
    margin = options.inward_margin * crop_size
    discs = click_discs(
        clicks.extreme_points,
        clicks.box,
        crop_size=crop_size,
        grid=grid,
        inward_margin_px=margin,
        radius=options.disc_radius,
    )
    starts = jnp.where(shown.any(axis=1, keepdims=True), shown, True)[..., None]
    initial = initial_points(
        clicks.extreme_points,
        jnp.ones_like(clicks.has_points),
        clicks.box,
        clicks.valid_region,
        crop_size=crop_size,
        patch_size=crop_size // grid,
        inward_margin_px=margin,
    )
    return Cells(
        fg_start=(discs * starts).sum(axis=1) / starts.sum(axis=1),
        bg_start=initial.bg_start,
        inside=initial.unlabeled | initial.fg,
    )


def nearest_transitions(
    similarity: Float[Array, "b p p"], *, share: float
) -> Float[Array, "b p p"]:
    """S with the largest entries of every row alone, and a trace of the others.

    The trace keeps every row and column positive, as Sinkhorn wants them.

    Args:
        similarity: S, non-negative.
        share: Share of the entries of a row that stay, in (0, 1]; one at the least.
    """
    num_cells = similarity.shape[-1]
    count = min(num_cells, max(1, round(share * num_cells)))
    least = jax.lax.top_k(similarity, count)[0][..., -1:]
    return jnp.where(similarity >= least, similarity, 0.0) + _FAINT * similarity


def log_ratio(scores: Float[Array, "b 2 p"]) -> Float[Array, "b p"]:
    """Logarithm of pi^(f) / pi^(b), bounded: which of the two starts reaches a cell."""
    in_means = scores * scores.shape[-1] + _FAINT
    ratio = jnp.log(in_means[:, 0]) - jnp.log(in_means[:, 1])
    return jnp.clip(ratio, -_FARTHEST, _FARTHEST)
