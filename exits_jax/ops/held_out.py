"""How well a walk tells object from background, measured without any mask.

What an annotation says is left out in part, and looked for in what the walk finds: an
extreme point and half of the background, or the place where the object touches a side
of its box.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from exits_jax.ops.clicks import Clicks
from exits_jax.ops.propagation import propagation_scores

_PLACES = 24  # along a side of the box
_AWAY = 0.15  # of the click, as a share of the side: there the object need not be


def held_out_check(
    transition: Float[Array, "b p p"],
    cells: Float[Array, "b 4 p"],
    background: Bool[Array, "b p"],
    *,
    num_hops: int,
) -> Float[Array, " b"]:
    """Share of hidden background points that score below the hidden extreme point.

    Every extreme point is hidden in turn. 0.5 is chance, values well below it say
    that the walk prefers the other region, as inverted attention layers do.

    Args:
        transition: T of Eq. (2).
        cells: Cell of each extreme point, one-hot; see `seed_cells`.
        background: P_BG; every second cell of it is hidden.
        num_hops: Length of the walk.

    Returns:
        The share, in [0, 1]; 0.5 for a crop without hidden background.
    """
    side = round(cells.shape[2] ** 0.5)
    row, column = jnp.divmod(jnp.arange(side * side), side)
    is_hidden = ((row + column) % 2 == 0)[None]
    shown, hidden = background & ~is_hidden, background & is_hidden
    others = (cells.sum(axis=1, keepdims=True) - cells) / 3.0  # [B, 4, P]
    from_shown = shown / jnp.maximum(shown.sum(axis=1, keepdims=True), 1)
    start = jnp.concatenate([others, from_shown[:, None]], axis=1)
    scores = propagation_scores(transition, start, num_hops=num_hops)
    margin = scores[:, :4] - scores[:, 4:]
    of_point = (margin * cells).sum(axis=2, keepdims=True)  # [B, 4, 1]
    # A tie counts half, so that a walk that knows nothing is at chance.
    is_below = (margin < of_point) + 0.5 * (margin == of_point)
    count = hidden.sum(axis=1)
    total = (is_below * hidden[:, None]).sum(axis=(1, 2))
    share = total / jnp.maximum(4 * count, 1)
    return jnp.where(count > 0, share, 0.5)


def touch_check(
    probability: Float[Array, "b n n"],
    clicks: Clicks,
    *,
    side: int,
    crop_size: int,
    inward_margin: float,
) -> Float[Array, " b"]:
    """Share of a side of the box that is less likely object than where it is touched.

    The map must have been made without the click of that side. 0.5 is what a map
    without any knowledge of the side has; nearness to the other clicks gives more.

    Args:
        probability: What a walk from the other three clicks found.
        clicks: All four of them.
        side: 0 to 3: top, left, bottom, right.
        crop_size: Side of the crop, px.
        inward_margin: How far inside the box the places lie, as a share of the crop.
    """
    grid = probability.shape[1]
    along = side % 2  # 0: x runs along the side
    if along:
        probability = probability.mT
    low, high = clicks.box[:, along], clicks.box[:, along + 2]
    touched = clicks.extreme_points[:, side, along]
    inward = 1 if side < 2 else -1
    depth = clicks.extreme_points[:, side, 1 - along]
    depth = depth + inward * inward_margin * crop_size
    share = (jnp.arange(_PLACES) + 0.5) / _PLACES
    places = low[:, None] + share[None] * (high - low)[:, None]
    away = jnp.abs(places - touched[:, None]) > _AWAY * (high - low)[:, None]
    cells = crop_size / grid
    profile = jnp.einsum("bi,bij->bj", _hat(depth / cells, grid), probability)
    there = jnp.einsum("bmj,bj->bm", _hat(places / cells, grid), profile)
    here = jnp.einsum("bj,bj->b", _hat(touched / cells, grid), profile)[:, None]
    is_less = (there < here) + 0.5 * (there == here)
    count = away.sum(axis=1)
    found = (is_less * away).sum(axis=1) / jnp.maximum(count, 1)
    return jnp.where(count > 0, found, 0.5)


def _hat(at: Float[Array, "*s"], grid: int) -> Float[Array, "*s n"]:
    """Weights of linear interpolation at a place, in cells."""
    nearest = jnp.clip(at - 0.5, 0, grid - 1)[..., None]
    cell = jnp.arange(grid).reshape((1,) * at.ndim + (grid,))
    return jnp.maximum(1 - jnp.abs(nearest - cell), 0.0)
