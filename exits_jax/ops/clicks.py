"""The geometry of four extreme clicks, without a look at the image.

The object touches its box at the clicks: what lies deep inside their quadrilateral is
likely to belong to it and what lies in the box's corners is not.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_SHORT = 1e-3  # px; a shorter side of a polygon has no direction
_TIP = 0.025  # half the width of a wedge at its click, share of the side of the box


class Clicks(NamedTuple):
    """What was annotated of each object, in px of the crop."""

    extreme_points: Float[Array, "b 4 2"]  # top, left, bottom, right as (x, y)
    has_points: Bool[Array, " b"]  # False: a box alone
    box: Float[Array, "b 4"]  # xyxy
    valid_region: Float[Array, "b 4"]  # the part of the crop that is image, xyxy


def clicks_or_midpoints(
    extreme_points: Float[Array, "b 4 2"],
    shown: Bool[Array, "b 4"],
    box: Float[Array, "b 4"],
) -> Float[Array, "b 4 2"]:
    """The clicks, the middle of the box's side for those that are not shown.

    Both are (x, y), px of the crop.
    """
    x0, y0, x1, y1 = (box[:, i] for i in range(4))
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    sides = ((x, y0), (x0, y), (x, y1), (x1, y))  # top, left, bottom, right
    middles = jnp.stack([jnp.stack(side, axis=1) for side in sides], axis=1)
    return jnp.where(shown[..., None], extreme_points, middles)


def polygon_depth(
    extreme_points: Float[Array, "b 4 2"],
    box: Float[Array, "b 4"],
    *,
    crop_size: int,
    grid: int,
) -> Float[Array, "b n n"]:
    """Signed depth of each cell's centre in the quadrilateral of the clicks.

    Args:
        extreme_points: Top, left, bottom, right as (x, y), px of the crop.
        box: xyxy, px of the crop; its size is the unit.
        crop_size: Side of the square crop, px.
        grid: Cells along a side.

    Returns:
        Distance to the nearest side (continued to a line), positive inside, in units
        of half the side of a square with the area of the box. 0 everywhere where all
        clicks fall on one place.
    """
    corners = extreme_points[:, (0, 3, 2, 1)]  # clockwise in an image
    side = jnp.roll(corners, -1, axis=1) - corners
    length = jnp.linalg.norm(side, axis=-1)
    normal = jnp.stack([-side[..., 1], side[..., 0]], axis=-1)
    normal = normal / jnp.maximum(length, _SHORT)[..., None]
    centre = (jnp.arange(grid) + 0.5) * (crop_size / grid)
    y, x = jnp.meshgrid(centre, centre, indexing="ij")
    offset_x = x[None, ..., None] - corners[:, None, None, :, 0]
    offset_y = y[None, ..., None] - corners[:, None, None, :, 1]
    depth = (
        offset_x * normal[:, None, None, :, 0] + offset_y * normal[:, None, None, :, 1]
    )
    has_length = (length > _SHORT)[:, None, None]
    depth = jnp.where(has_length, depth, jnp.inf).min(axis=-1)
    width_height = (box[:, 2:] - box[:, :2]).prod(axis=1)
    unit = 0.5 * jnp.sqrt(jnp.maximum(width_height, 1.0))[:, None, None]
    return jnp.where(jnp.isfinite(depth), depth / unit, 0.0)


def click_discs(
    extreme_points: Float[Array, "b 4 2"],
    box: Float[Array, "b 4"],
    *,
    crop_size: int,
    grid: int,
    inward_margin_px: float,
    radius: float,
) -> Float[Array, "b 4 p"]:
    """A Gaussian disc around each click after its move towards the centre.

    Args:
        extreme_points: Top, left, bottom, right as (x, y), px of the crop.
        box: xyxy, px of the crop. Cells with their centre outside it get nothing.
        crop_size: Side of the square crop, px.
        grid: Cells along a side.
        inward_margin_px: delta, by which each click moves towards the centre, px.
        radius: Standard deviation of a disc, in cells.

    Returns:
        One distribution over the cells per click. All 0 for a click that ends up
        farther than about 13 radii from every cell centre in the box.
    """
    inward = jnp.array([[0, 1], [1, 0], [0, -1], [-1, 0]], extreme_points.dtype)
    cell = crop_size / grid
    middle = (extreme_points + inward_margin_px * inward[None]) / cell
    centre = (jnp.arange(grid) + 0.5)[None, None]
    gauss = lambda at: jnp.exp(-((centre - at[..., None]) ** 2) / (2 * radius**2))
    low, high = box[:, :2, None] / cell, box[:, 2:, None] / cell
    is_in = (centre >= low) & (centre <= high)  # [B, 2, N]
    columns = gauss(middle[..., 0]) * is_in[:, None, 0]
    rows = gauss(middle[..., 1]) * is_in[:, None, 1]
    discs = (rows[..., :, None] * columns[..., None, :]).reshape(*rows.shape[:2], -1)
    return discs / jnp.maximum(discs.sum(axis=-1, keepdims=True), 1e-37)


def click_wedges(
    extreme_points: Float[Array, "b 4 2"],
    has_points: Bool[Array, " b"],
    box: Float[Array, "b 4"],
    *,
    crop_size: int,
    grid: int,
    depth: float,
) -> Bool[Array, "b n n"]:
    """Cells right behind the clicks, which the object has to contain.

    From each click a wedge opens inwards, one wide for two deep, from a tip wide enough
    to hold the click: the click is in the mask and the mask, wherever it begins within
    `depth`, is in one piece with it.

    Args:
        extreme_points: Top, left, bottom, right as (x, y), px of the crop.
        has_points: False for a box alone, which has no wedges.
        box: xyxy, px of the crop; lengths are shares of its sides.
        crop_size: Side of the square crop, px.
        grid: Cells along a side.
        depth: How far the wedges reach, as a share of the side across; 0: no wedges.
    """
    centre = (jnp.arange(grid) + 0.5) * (crop_size / grid)
    sides = jnp.maximum(box[:, 2:] - box[:, :2], 1.0)
    offset = (centre[None, None, None] - extreme_points[..., None]) / sides[
        :, None, :, None
    ]
    from_x = offset[:, :, 0, None, :]  # [B, 4, 1, N]
    from_y = offset[:, :, 1, :, None]
    inward = jnp.stack(
        jnp.broadcast_arrays(from_y[:, 0], from_x[:, 1], -from_y[:, 2], -from_x[:, 3]),
        axis=1,
    )
    across = jnp.stack(
        jnp.broadcast_arrays(from_x[:, 0], from_y[:, 1], from_x[:, 2], from_y[:, 3]),
        axis=1,
    )
    # A tip of a cell at the least: the one that holds the click is in.
    half = 0.501 * (crop_size / grid) / sides  # [B, xy]
    tip_x, tip_y = (jnp.maximum(_TIP, half[:, axis, None, None]) for axis in (0, 1))
    tip_along = jnp.stack([tip_y, tip_x, tip_y, tip_x], axis=1)
    tip_across = jnp.stack([tip_x, tip_y, tip_x, tip_y], axis=1)
    is_near = (inward >= -tip_along) & (inward < jnp.maximum(depth, tip_along))
    is_within = jnp.abs(across) <= tip_across + 0.5 * jnp.maximum(inward, 0.0)
    wedges = (is_near & is_within).any(axis=1)
    return wedges & has_points[:, None, None] & (depth > 0)
