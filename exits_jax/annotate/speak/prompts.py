"""Points that people set in other tools, as four clicks and parts to leave out."""

from collections.abc import Sequence

import cv2
import numpy as np

from exits_jax.importers.outlines import extreme_vertices

Point = tuple[float, float]  # (x, y) px; (0, 0) is the centre of the first pixel


def four_of(points: Sequence[Point]) -> list[Point] | None:
    """The outermost of the points on an object; None while there are fewer than four.

    Four are taken as they are. Of more, one may be the outermost to two sides.
    """
    if len(points) <= 4:
        return list(points) if len(points) == 4 else None
    return list(extreme_vertices(list(points)))


def without(
    part: np.ndarray, origin: tuple[int, int], points: Sequence[Point]
) -> np.ndarray:
    """A mask without its connected parts at some points.

    Args:
        part: bool [h, w], the mask within a box of its image.
        origin: (left, top) of the box, px.
        points: Where nothing should be; those off the mask change nothing.
    """
    if not points:
        return part
    height, width = part.shape
    _, labels = cv2.connectedComponents(part.astype(np.uint8), connectivity=8)
    left, top = origin
    for x, y in points:
        column, row = round(x) - left, round(y) - top
        if 0 <= column < width and 0 <= row < height and labels[row, column]:
            part = part & (labels != labels[row, column])
    return part
