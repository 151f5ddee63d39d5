"""The geometry of extreme points and boxes: (x, y) px, boxes xyxy, plain numbers."""

import itertools
import math
from collections.abc import Sequence

SIDES = ("top", "left", "bottom", "right")  # the order of extreme points
POINT_SLACK_PX = 1.0  # rounding of annotation tools

Point = tuple[float, float]
Box = tuple[float, float, float, float]


def clip_box(box: Box, size: tuple[int, int]) -> Box:
    """The part of a box inside an image of a size (height, width); may be empty."""
    height, width = map(float, size)
    x0, y0, x1, y1 = box
    return max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height)


def look_normalised(values: Sequence[float | int], size: tuple[int, int]) -> bool:
    """Whether coordinates are all shares, 0 to 1, in an image that is larger."""
    return max(size) > 2 and all(0 <= value <= 1 for value in values)


def box_of(points: Sequence[Point]) -> Box:
    """The box of whole pixels that points span, xyxy."""
    # The outermost values rather than the four declared sides: within the tolerance
    # on the order they differ by a pixel, and every point must lie in its box.
    xs, ys = zip(*points)
    return (
        float(math.floor(min(xs))),
        float(math.floor(min(ys))),
        math.floor(max(xs)) + 1.0,
        math.floor(max(ys)) + 1.0,
    )


def box_distance(
    box: Sequence[float | int], bbox: Sequence[float | int], *, slack: float = 0.05
) -> float:
    """How far apart two boxes (xyxy px) are; up to 1 counts as agreement.

    Args:
        box: The box of the points.
        bbox: The annotated box, with an area.
        slack: Share of the annotated box's side that may lie between them.

    Returns:
        The largest distance of two sides in units of max(5 px, `slack` of the side).
    """
    limits = [max(5.0, slack * (bbox[k + 2] - bbox[k])) for k in (0, 1)]
    return max(abs(a - b) / limits[k % 2] for k, (a, b) in enumerate(zip(box, bbox)))


def order_excess(points: Sequence[Point]) -> tuple[float, ...]:
    """How far each point is from being the extreme of its side, px."""
    top, left, bottom, right = points
    xs, ys = zip(*points)
    return (
        top[1] - min(ys),
        left[0] - min(xs),
        max(ys) - bottom[1],
        max(xs) - right[0],
    )


def sorted_points(points: list[Point]) -> list[Point]:
    """Finds the side of each point; a corner may have to serve two sides."""
    orders = itertools.permutations(points)
    best = min(orders, key=lambda order: sum(order_excess(order)))
    if max(order_excess(best)) <= POINT_SLACK_PX:
        return list(best)
    by_x, by_y = sorted(points), sorted(points, key=lambda point: point[1])
    return [by_y[0], by_x[0], by_y[-1], by_x[-1]]
