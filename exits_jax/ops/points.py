"""What an annotation says about each point of a crop (Sec. 3.2)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class InitialPoints(NamedTuple):
    """The initial point sets; `fg`, `bg` and `unlabeled` are disjoint.

    Padding (cells that show pixels wrapped around from the other side of the image)
    belongs to none of them, unless it is all the background that a crop has.
    """

    fg: Bool[Array, "b p"]  # P_FG: extreme points, moved inward
    bg: Bool[Array, "b p"]  # P_BG: cells wholly outside the box
    unlabeled: Bool[Array, "b p"]  # P_Box
    fg_start: Float[Array, "b p"]  # 1/4 per extreme point: two in one cell count twice
    bg_start: Float[Array, "b p"]  # uniform on P_BG, 0 everywhere where it is empty


def initial_points(
    extreme_points: Float[Array, "b 4 2"],
    has_points: Bool[Array, " b"],
    box: Float[Array, "b 4"],
    valid_region: Float[Array, "b 4"],
    *,
    crop_size: int,
    patch_size: int,
    inward_margin_px: float,
    background: str = "outside",
    use_padding: bool = False,
) -> InitialPoints:
    """Labels the cells that an annotation decides by itself.

    Args:
        extreme_points: Top, left, bottom, right as (x, y), px of the crop.
        has_points: False for objects annotated by a box alone: their P_FG is empty.
        box: xyxy, px of the crop, right and bottom exclusive.
        valid_region: The part of the crop that is image, xyxy, px of the crop.
        crop_size: Side of the square crop, px.
        patch_size: Side of a cell, px.
        inward_margin_px: delta, by which each extreme point moves towards the centre.
        background: "outside" takes cells wholly outside the box, "centre" those whose
            centre is.
        use_padding: Whether cells beyond the image may be background.

    Raises:
        ValueError: If `background` is not one of the two rules.
    """
    grid = crop_size // patch_size
    cells = seed_cells(
        extreme_points,
        crop_size=crop_size,
        patch_size=patch_size,
        inward_margin_px=inward_margin_px,
    )
    fg_count = cells.sum(axis=1) * has_points[:, None]
    fg = fg_count > 0

    inset = {"outside": 0.0, "centre": patch_size / 2}
    if background not in inset:
        raise ValueError(
            f"Unknown background rule {background!r}; known: {', '.join(inset)}."
        )
    low, high = _cell_edges(grid, patch_size)
    shrunk = inset[background]
    outside = ~_overlaps(low + shrunk, high - shrunk, box)
    inside_image = _contained(low, high, valid_region)
    allowed = outside & (inside_image | use_padding)
    # An object that fills its image has only padding for a background.
    allowed = jnp.where(allowed.any(axis=1, keepdims=True), allowed, outside)
    bg = allowed & ~fg

    return InitialPoints(
        fg=fg,
        bg=bg,
        unlabeled=~outside & ~fg,
        fg_start=fg_count / 4.0,
        bg_start=bg / jnp.maximum(bg.sum(axis=1, keepdims=True), 1),
    )


def seed_cells(
    extreme_points: Float[Array, "b 4 2"],
    *,
    crop_size: int,
    patch_size: int,
    inward_margin_px: float,
) -> Float[Array, "b 4 p"]:
    """The cell of each extreme point after its move towards the centre, one-hot.

    The paper writes y upwards; in an image, inward from the top is y + delta.
    """
    inward = jnp.array([[0, 1], [1, 0], [0, -1], [-1, 0]], extreme_points.dtype)
    points = extreme_points + inward_margin_px * inward[None]
    grid = crop_size // patch_size
    cell = jnp.floor(jnp.clip(points, 0, crop_size - 1) / patch_size).astype(jnp.int32)
    cell = jnp.minimum(cell, grid - 1)
    flat = cell[..., 1] * grid + cell[..., 0]  # (x, y) -> row * N + column
    return jax.nn.one_hot(flat, grid * grid)


def _cell_edges(
    grid: int, patch_size: int
) -> tuple[Float[Array, "p 2"], Float[Array, "p 2"]]:
    """Top-left and bottom-right corner (x, y) of each cell, px."""
    row, column = jnp.divmod(jnp.arange(grid * grid), grid)
    low = jnp.stack([column, row], axis=1) * float(patch_size)
    return low, low + patch_size


def _overlaps(
    low: Float[Array, "p 2"], high: Float[Array, "p 2"], box: Float[Array, "b 4"]
) -> Bool[Array, "b p"]:
    """Whether a cell [low, high] and the box share more than an edge.

    A cell shrunk to its centre (low = high) is a point, inside if within the box.
    """
    slack = 1e-3  # px; edges that coincide up to rounding do not overlap
    after_start = high[None] > box[:, None, :2] + slack
    before_end = low[None] < box[:, None, 2:] - slack
    return (after_start & before_end).all(axis=-1)


def _contained(
    low: Float[Array, "p 2"], high: Float[Array, "p 2"], region: Float[Array, "b 4"]
) -> Bool[Array, "b p"]:
    slack = 1e-3
    after_start = low[None] >= region[:, None, :2] - slack
    before_end = high[None] <= region[:, None, 2:] + slack
    return (after_start & before_end).all(axis=-1)
