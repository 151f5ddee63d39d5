"""The rule of ExtremeNet (Zhou et al., CVPR 2019) for extreme points.

Called for every record of files with a million of them: polygons are handled as lists,
since an object has some dozen vertices, too few for arrays to pay.
"""

from typing import Any, NamedTuple

import numpy as np

from exits_jax.data.masks import check_polygons, decode_mask
from exits_jax.data.records import fault

_TOLERANCE = 0.02  # an edge of about 3 degrees still counts as flat


class Run(NamedTuple):
    """The nearly flat run of vertices along one side of an object."""

    vertices: list[tuple[int | float, int | float]]  # (x, y), px
    joined: list[bool]  # whether an edge leads from a vertex to the next one


def extremenet_points(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Extreme points of a segmentation by the rule of ExtremeNet.

    The vertices of all polygons form one list (an RLE gives its pixels, row by row),
    which is extended by its last element in front and its first behind. From the
    first vertex on the extreme line of a side, the run of neighbours within 2 % of
    the object's extent is followed in both directions; the point is the middle of
    the run on the extreme line, rounded down.

    Args:
        segmentation: COCO polygons, or an RLE with counts as a list or a string.
        height: Height of the image, px.
        width: Width of the image, px.

    Returns:
        float32 `[4, 2]`, whole (x, y) inside the image, order top, left, bottom, right.

    Raises:
        AnnotationError: The segmentation is malformed (E211, E212) or leaves no pixel
            in the image (E213).
    """
    if isinstance(segmentation, dict):
        points = _middles_of_pixels(decode_mask(segmentation, height, width))
    else:
        points = _middles_of_vertices(_ring(segmentation, height, width))
    # Truncation first: polygons may touch the far border, where x == width.
    last_x, last_y = width - 1, height - 1
    return np.array(
        [(min(max(int(x), 0), last_x), min(max(int(y), 0), last_y)) for x, y in points],
        np.float32,
    )


def extremenet_runs(polygons: Any, height: int, width: int) -> list[Run]:
    """The runs whose middles `extremenet_points` takes, of polygons only.

    Args:
        polygons: COCO polygons.
        height: Height of the image, px.
        width: Width of the image, px.

    Returns:
        One run for each side, order top, left, bottom, right.

    Raises:
        AnnotationError: As `extremenet_points`.
    """
    ring = _ring(polygons, height, width)
    joined = [len(polygons) == 1]  # the copies in front and behind close one polygon
    for polygon in polygons:
        joined += [True] * (len(polygon) // 2 - 1) + [False]
    joined[-1] = len(polygons) == 1
    vertices = list(zip(*ring))
    return [
        Run(vertices[start:stop], joined[start : stop - 1])
        for start, stop in _run_ends(ring)
    ]


class _Ring(NamedTuple):
    """All vertices of an object, with a copy of the last in front and of the first."""

    x: list[int | float]
    y: list[int | float]


def _ring(polygons: Any, height: int, width: int) -> _Ring:
    check_polygons(polygons, height, width)
    x, y = [], []
    for polygon in polygons:
        x += polygon[::2]
        y += polygon[1::2]
    if min(x) >= width or min(y) >= height or max(x) < 0 or max(y) < 0:
        raise fault("E213", f"its mask lies outside its {width}x{height} image.")
    return _Ring([x[-1], *x, x[0]], [y[-1], *y, y[0]])


def _middles_of_vertices(ring: _Ring) -> list[tuple[int | float, int | float]]:
    """The rule on lists: an object has some dozen vertices, too few for arrays."""
    (x, y), ends = ring, _run_ends(ring)
    top, left, bottom, right = (
        (max(line[start:stop]) + min(line[start:stop])) // 2
        for line, (start, stop) in zip((x, y, x, y), ends)
    )
    return [(top, min(y)), (min(x), left), (bottom, max(y)), (max(x), right)]


def _run_ends(ring: _Ring) -> list[tuple[int, int]]:
    """Where the run of each side starts and stops in the ring."""
    x, y = ring
    low_x, high_x, low_y, high_y = min(x), max(x), min(y), max(y)
    slack_x = _TOLERANCE * (high_x - low_x + 1)
    slack_y = _TOLERANCE * (high_y - low_y + 1)
    return [
        _run_around(y, low_y, slack_y),
        _run_around(x, low_x, slack_x),
        _run_around(y, high_y, slack_y),
        _run_around(x, high_x, slack_x),
    ]


def _run_around(
    values: list[int | float], extreme: int | float, slack: float
) -> tuple[int, int]:
    """The neighbours of the first extreme value that are nearly as extreme."""
    start = values.index(extreme)
    stop, last = start + 1, len(values)
    while stop < last and abs(values[stop] - extreme) <= slack:
        stop += 1
    while start and abs(values[start - 1] - extreme) <= slack:
        start -= 1
    return start, stop


def _middles_of_pixels(mask: np.ndarray) -> list[tuple[int | float, int | float]]:
    """The rule on arrays: an object has thousands of pixels."""
    rows, columns = np.nonzero(mask)
    x = np.concatenate([columns[-1:], columns, columns[:1]])
    y = np.concatenate([rows[-1:], rows, rows[:1]])
    left, right, top, bottom = map(int, (x.min(), x.max(), y.min(), y.max()))
    slack_x = _TOLERANCE * (right - left + 1)
    slack_y = _TOLERANCE * (bottom - top + 1)
    return [
        (_middle_of_run(x, y - top, slack_y), top),
        (left, _middle_of_run(y, x - left, slack_x)),
        (_middle_of_run(x, bottom - y, slack_y), bottom),
        (right, _middle_of_run(y, right - x, slack_x)),
    ]


def _middle_of_run(along: np.ndarray, depth: np.ndarray, slack: float) -> int:
    """The middle, rounded down, of the run around the first pixel of depth 0."""
    first = int(np.argmin(depth))
    outside = np.flatnonzero(depth > slack)
    place = int(np.searchsorted(outside, first))
    start = outside[place - 1] + 1 if place else 0
    stop = outside[place] if place < outside.size else along.size
    run = along[start:stop]
    return int((run.max() + run.min()) // 2)
