"""Clicks and boxes as tools give them, brought into our pixels; pure functions.

Two frames meet here. Our points are indices of pixels: (0, 0) is the centre of the
first pixel. Shares and percents measure from edge to edge: 0 is the left edge of the
first pixel, 1 the right edge of the last. So x = share * width - 0.5, and what this
moves across the border of the image, by half a pixel at most, is put back on it.

That clicks given as shares are edge coordinates can be seen in Open Images: the sides
of each box equal the coordinates of its clicks, and a box runs from edge to edge (its
width is XMax - XMin, and XMax = 1 at the right border). Boxes stay in the edge frame,
as in COCO.
"""

from collections.abc import Sequence
from typing import Any

from exits_jax.data.geometry import SIDES, Box, Point, look_normalised, sorted_points
from exits_jax.data.records import MAX_NUMBER, fault

UNITS = {"px": None, "share": 1.0, "percent": 100.0}  # the value at the far edge
# A region may be drawn a little over the edge; what leaves it further is in pixels.
_SLACK = 0.05  # of the image
_ROUNDING_PX = 0.1  # of shares and percents at the border: no remark
DECIMALS = 3  # of a pixel; files give six decimals of a share


def place_clicks(
    clicks: Sequence[Sequence[Any]], unit: str, size: tuple[int, int]
) -> list[Point]:
    """Turns four clicks, made in any order, into extreme points.

    Args:
        clicks: Four (x, y); their order is not trusted.
        unit: One of `UNITS`. Pixels are taken as they are.
        size: (height, width) of the image, px.

    Returns:
        (x, y) in pixels in the order top, left, bottom, right. A click in a corner may
        serve two sides.

    Raises:
        AnnotationError: Not four clicks (E207), not finite numbers (E104), or numbers
            that are not in the declared unit (E209).
    """
    if len(clicks) != 4 or any(len(click) != 2 for click in clicks):
        raise fault(
            "E207",
            f"There are {len(clicks)} clicks: {tuple(clicks)!r:.80}; expected four "
            f"(x, y), one per side ({', '.join(SIDES)}).",
        )
    _check_unit([value for click in clicks for value in click], unit, size, "clicks")
    far, (height, width) = UNITS[unit], size
    if far is None:
        return in_order([(float(x), float(y)) for x, y in clicks])
    return in_order(
        [(_index(x / far, width), _index(y / far, height)) for x, y in clicks]
    )


def place_box(box: Sequence[Any], unit: str, size: tuple[int, int]) -> Box:
    """Turns a box into pixels, xyxy, from edge to edge.

    Args:
        box: (x0, y0, x1, y1).
        unit: One of `UNITS`.
        size: (height, width) of the image, px.

    Raises:
        AnnotationError: Not four finite numbers (E104), or numbers that are not in the
            declared unit (E209).
    """
    if len(box) != 4:
        raise fault("E104", f"The box is {tuple(box)!r:.80}; expected x0, y0, x1, y1.")
    _check_unit(box, unit, size, "box")
    far, (height, width) = UNITS[unit], size
    if far is None:
        x0, y0, x1, y1 = map(float, box)
    else:
        lengths = (width, height, width, height)
        x0, y0, x1, y1 = (
            round(value / far * length, DECIMALS) for value, length in zip(box, lengths)
        )
    return x0, y0, x1, y1


def clip_outline(points: list[Point], size: tuple[int, int]) -> list[Point]:
    """The extreme points of an outline that leaves its image, put on the border.

    Unlike a click, an outline may leave it by more than a pixel. Points beyond a
    twentieth of the image stay where they are, to be refused.

    Args:
        points: Extreme points, (x, y) px.
        size: (height, width) of the image, px.
    """
    height, width = size
    near = all(
        -_SLACK * side <= value <= (1 + _SLACK) * side
        for point in points
        for value, side in zip(point, (width, height))
    )
    if not near:
        return points
    last = (width - 1.0, height - 1.0)
    return [(min(max(x, 0.0), last[0]), min(max(y, 0.0), last[1])) for x, y in points]


def in_order(points: Sequence[Point]) -> list[Point]:
    """Four points in the order top, left, bottom, right, however they were given."""
    points = sorted(points)  # ties are then decided alike for every order of clicks
    by_y = sorted(points, key=lambda point: point[1])
    best = [by_y[0], points[0], by_y[-1], points[-1]]
    if len(set(best)) == 4:
        return best
    return sorted_points(points)


def _index(share: float, length: int) -> float:
    """The pixel index at a share of the image; beyond 0..1 it stays outside."""
    value = share * length - 0.5
    rounding = _ROUNDING_PX / length
    if -rounding <= share <= 1 + rounding:
        value = min(max(value, 0.0), length - 1.0)
    return round(value, DECIMALS)


def _check_unit(
    values: Sequence[Any], unit: str, size: tuple[int, int], name: str
) -> None:
    """Refuses numbers that are none, and numbers that look like another unit."""
    if unit not in UNITS:
        raise ValueError(f"unit is {unit!r}; choose one of {', '.join(UNITS)}.")
    if not all(_is_number(value) for value in values):
        raise fault(
            "E104", f"The {name} {tuple(values)!r:.120} should be finite numbers."
        )
    far, low, high = UNITS[unit], float(min(values)), float(max(values))
    wrong = ""
    if far is None:
        whole = all(float(value).is_integer() for value in values)
        # Whole ones may be an object of two pixels; `read_instance` asks its box.
        if look_normalised((low, high), size) and not whole:
            wrong = "they all lie in 0..1 and look like shares of the image"
    elif unit == "percent" and look_normalised((low, high), size):
        wrong = "they all lie in 0..1 and look like shares of the image"
    else:
        slack = _SLACK * far
        if low < -slack or high > far + slack:
            wrong = f"they leave 0..{far:g} and look like pixels or another unit"
    if wrong:
        raise fault(
            "E209",
            f"The {name} {tuple(values)!r:.120} should be in {unit}, but {wrong} "
            f"({size[1]}x{size[0]} px).",
        )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < MAX_NUMBER
