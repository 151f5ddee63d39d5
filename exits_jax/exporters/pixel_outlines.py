"""The outline of a mask along the edges of its pixels, not through their centres.

Corners are points of the pixel lattice: pixel (column x, row y) has the corners (x, y)
to (x + 1, y + 1), the frame of COCO's polygons. Pixels that share a side belong
together; those that touch at a corner alone have rings of their own, so that no ring
meets itself. A ring has the object on its right: clockwise around a part as the image
is seen, counter-clockwise around a hole.
"""

from typing import NamedTuple

import numpy as np

# Of the four pixels around a lattice point, the code has 1 for the north-western, 2 for
# the north-eastern, 4 for the south-western and 8 for the south-eastern one.
_NW, _NE, _SW, _SE = (-1, -1), (1, -1), (-1, 1), (1, 1)
# Towards the object, from the corners that lie at a point, western ones first.
_TOWARDS = {
    **{1: (_NW,), 2: (_NE,), 4: (_SW,), 8: (_SE,)},  # the only pixel
    **{14: (_SE,), 13: (_SW,), 11: (_NE,), 7: (_NW,)},  # across from the missing one
    **{9: (_NW, _SE), 6: (_SW, _NE)},  # two pixels that touch: a corner for each
}
_NUM_CORNERS = np.array([len(_TOWARDS.get(code, ())) for code in range(16)])
_DIRECTIONS = np.zeros((16, 2, 2), np.int64)  # code, which corner, (x, y)
for _code, _found in _TOWARDS.items():
    _DIRECTIONS[_code, : len(_found)] = _found


class Hole(NamedTuple):
    """A ring around a hole, and where a straight cut upwards from it ends."""

    ring: list[int]  # corners; the first is the topmost, of these the leftmost
    corner: int  # the cut ends on the edge that goes east from this corner
    y: int  # of that edge


class Lattice(NamedTuple):
    """The corners of a mask's outline, and its rings as indices of them."""

    corners: np.ndarray  # int64 [n, 2], (x, y)
    towards: np.ndarray  # int64 [n, 2], each -1 or 1: the side where the object lies
    parts: list[list[int]]  # one ring per part, by its topmost corner
    holes: list[Hole]  # by their topmost corner


def trace(mask: np.ndarray) -> Lattice:
    """Finds the rings around the parts and the holes of a mask.

    Args:
        mask: bool [height, width].
    """
    padded = np.pad(mask, 1).astype(np.uint8)
    codes = padded[:-1, :-1] + 2 * padded[:-1, 1:]
    codes += 4 * padded[1:, :-1] + 8 * padded[1:, 1:]
    ys, xs = np.nonzero(_NUM_CORNERS[codes])  # row by row, from the left
    codes = codes[ys, xs]
    copies = _NUM_CORNERS[codes]
    ys, xs, codes = (np.repeat(values, copies) for values in (ys, xs, codes))
    which = np.zeros(len(ys), np.int64)
    which[1:] = (ys[1:] == ys[:-1]) & (xs[1:] == xs[:-1])
    towards = _DIRECTIONS[codes, which]
    rings = _rings(_partners(xs, ys, towards), (towards[:, 0] < 0).tolist())
    holes = [ring for ring, is_hole in rings if is_hole]
    return Lattice(
        corners=np.stack([xs, ys], axis=1),
        towards=towards,
        parts=[ring for ring, is_hole in rings if not is_hole],
        holes=_with_cuts(padded, xs, ys, holes),
    )


def _partners(
    xs: np.ndarray, ys: np.ndarray, towards: np.ndarray
) -> tuple[list[int], list[int]]:
    """The other end of the horizontal and of the vertical edge at each corner.

    Along a row of the lattice, edges lie between the first and the second corner, the
    third and the fourth and so on; so they do along a column.
    """
    across = np.arange(len(xs)) ^ 1
    by_column = np.lexsort((towards[:, 1], ys, xs))
    down = np.empty_like(by_column)
    down[by_column] = by_column.reshape(-1, 2)[:, ::-1].ravel()
    return across.tolist(), down.tolist()


def _rings(
    partners: tuple[list[int], list[int]], faces_west: list[bool]
) -> list[tuple[list[int], bool]]:
    """The closed walks along the edges, and whether each surrounds a hole.

    The first corner of a walk is the topmost, of these the leftmost. There the object
    lies to the south-east, or, at a hole, to the north-west.
    """
    seen = [False] * len(faces_west)
    rings = []
    for start, is_hole in enumerate(faces_west):
        if seen[start]:
            continue
        ring, corner = [], start
        step, other = partners[::-1] if is_hole else partners
        while not seen[corner]:
            seen[corner] = True
            ring.append(corner)
            corner = step[corner]
            step, other = other, step
        rings.append((ring, is_hole))
    return rings


def _with_cuts(
    padded: np.ndarray, xs: np.ndarray, ys: np.ndarray, rings: list[list[int]]
) -> list[Hole]:
    """Cuts each hole free: upwards through the pixels to the left of its first corner.

    The cut ends at the first pixel that is not of the object, on the edge above which
    it lies; that edge is of a ring that begins higher up.
    """
    width = padded.shape[1]
    western = ys[::2] * width + xs[::2]  # western ends of the edges, in order
    holes = []
    for ring in rings:
        x, y = int(xs[ring[0]]), int(ys[ring[0]])
        top = int(np.flatnonzero(padded[: y + 1, x] == 0)[-1])
        edge = int(np.searchsorted(western, top * width + x - 1, side="right")) - 1
        holes.append(Hole(ring, 2 * edge, top))
    return holes
