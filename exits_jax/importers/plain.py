"""Many sound objects at once: what the checks of a single one come to, on arrays.

Sources of millions of rows hold little that is odd. An object counts as plain if every
check of `place_clicks`, `place_box` and `read_instance` passes without a remark and
without a tie; its numbers are then those that they give, to the last bit. Any other
object is left to them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from exits_jax.importers.clicks import DECIMALS, UNITS
from exits_jax.importers.items import ObjectItem

_SCALE = 10.0**DECIMALS
_TIE = 1e-6  # of a last decimal: nearer to a half, rounding may go either way


class PlainObjects(NamedTuple):
    """Objects in the order that they were given in."""

    is_plain: list[bool]
    numbers: list[str]  # JSON: x, y, w, h of the box, four x, y of the points, by ","


def plain_objects(
    items: Sequence[ObjectItem], sizes: Sequence[tuple[int, int]]
) -> PlainObjects:
    """Looks at objects with clicks and a box in shares or percents.

    Args:
        items: Objects that `is_candidate` and `has_four` hold for.
        sizes: (height, width) of their images, px.
    """
    clicks = np.array([item.clicks for item in items], np.float64)
    boxes = np.array([item.box for item in items], np.float64)
    far = np.array([UNITS[item.unit] for item in items], np.float64)
    sides = np.array(sizes, np.float64)[:, ::-1]  # width, height
    with np.errstate(invalid="ignore"):  # NaN is not plain
        points, placed = _placed(clicks, far, sides)
        ordered, sorted_ = _in_order(points)
        corners, boxed = _corners(boxes, far, sides)
        agree = _agree(points, corners, sides)
    is_plain = placed & sorted_ & boxed & agree
    numbers = np.concatenate([corners, ordered.reshape(-1, 8)], axis=1)
    numbers[~is_plain] = 0.0  # NaN is no JSON
    rows = msgspec.json.encode(numbers.tolist()).decode()
    return PlainObjects(is_plain.tolist(), rows[2:-2].split("],["))


def is_candidate(item: ObjectItem) -> bool:
    """Whether an object may have what `plain_objects` looks at."""
    return (
        item.unit != "px"
        and item.clicks is not None
        and item.box is not None
        and item.unit in UNITS
    )


def has_four(item: ObjectItem) -> bool:
    """Whether a candidate has four clicks of two numbers, and a box of four."""
    clicks, box = item.clicks or (), item.box or ()
    return [len(clicks), *map(len, clicks), len(box)] == [4, 2, 2, 2, 2, 4]


def _placed(clicks, far, sides):
    """Clicks as indices of pixels, [N, 4, 2], and whether they are plain."""
    shares = clicks / far[:, None, None]
    inside = ((shares >= 0) & (shares <= 1)).all((1, 2))
    lengths = sides[:, None]
    points, is_clear = _rounded(np.clip(shares * lengths - 0.5, 0, lengths - 1))
    in_pixels = (points > 1).any((1, 2)) & ((far == 1) | (clicks > 1).any((1, 2)))
    return points, inside & is_clear.all((1, 2)) & in_pixels


def _in_order(points):
    """Points in the order of SIDES, and whether each side has one of its own."""
    low, high = points.min(1, keepdims=True), points.max(1, keepdims=True)
    alone = ((points == low).sum(1) == 1) & ((points == high).sum(1) == 1)
    lowest, highest = points.argmin(1), points.argmax(1)
    order = np.stack([lowest[:, 1], lowest[:, 0], highest[:, 1], highest[:, 0]], axis=1)
    each = (1 << order).sum(1) == 15
    return np.take_along_axis(points, order[..., None], 1), alone.all(1) & each


def _corners(boxes, far, sides):
    """Boxes as xywh px, and whether they are plain."""
    shares = boxes / far[:, None]
    inside = ((shares >= 0) & (shares <= 1)).all(1)
    in_unit = (far == 1) | (boxes > 1).any(1)
    placed, is_clear = _rounded(shares * np.concatenate([sides, sides], axis=1))
    lengths, are_clear = _rounded(placed[:, 2:] - placed[:, :2])
    clear = is_clear.all(1) & are_clear.all(1) & (lengths > 0).all(1)
    return np.concatenate([placed[:, :2], lengths], axis=1), inside & in_unit & clear


def _agree(points, corners, sides):
    """Whether the box of the points is the annotated one, as by `box_distance`."""
    low = corners[:, :2]
    high = np.minimum(low + corners[:, 2:], sides)
    limits = np.maximum(5.0, 0.05 * (high - low))
    near = np.abs(np.floor(points.min(1)) - low) / limits
    far = np.abs(np.floor(points.max(1)) + 1.0 - high) / limits
    return ((high > low) & (near <= 1) & (far <= 1)).all(1)


def _rounded(values):
    """Values with DECIMALS, and whether these are beyond doubt."""
    scaled = values * _SCALE
    nearest = np.rint(scaled)
    return nearest / _SCALE, np.abs(np.abs(scaled - nearest) - 0.5) > _TIE
