"""Masks as polygons, for formats that know neither run lengths nor holes.

A hole is joined to the outline around it by a cut of width 0 that runs through the
object, there and back. Even-odd and non-zero rules both leave the hole empty.
"""

from bisect import bisect_right
from typing import NamedTuple

import numpy as np

from exits_jax.exporters.pixel_outlines import Lattice, trace
from exits_jax.exporters.simplify import simplified

# Moves outlines into the object by a quarter of a pixel. Rasterisers that ask for the
# centre of a pixel see no difference. Those that cut coordinates down to whole pixels
# and draw the outline as well, as cv2.fillPoly and Pillow do, would add a row and a
# column to an outline on the edges; this one they fill exactly.
INSET = 0.25
_MAX_PAIRS = 2**25  # compared to join parts; beyond, only with the latest vertices
_TOUCHING = 2.0  # px squared: between pixels that touch at a corner


class Polygon(NamedTuple):
    """One closed polygon without holes; the last vertex is not the first again."""

    points: np.ndarray  # float64 [n, 2], (x, y) px; whole numbers without an inset
    num_holes: int  # joined by cuts


class Joined(NamedTuple):
    """All parts of an object as one polygon."""

    points: np.ndarray  # as in Polygon
    num_holes: int
    num_bridges: int  # between parts that do not even touch at a corner


def polygons(
    mask: np.ndarray,
    *,
    left: int = 0,
    top: int = 0,
    inset: float = 0.0,
    tolerance: float = 0.0,
) -> list[Polygon]:
    """Turns a mask into one polygon per part, along the edges of its pixels.

    Pixels that touch at a corner alone belong to different parts.

    Args:
        mask: bool [height, width].
        left: Column of the image that the mask's first column is.
        top: Row of the image that the mask's first row is.
        inset: How far outlines are moved into the object, px, 0 to below 0.5.
        tolerance: How far a vertex that is left out may be from the outline, px, see
            `simplified`; 0 keeps all.

    Returns:
        The parts from top to bottom, each clockwise as the image is seen. Without a
        tolerance, rasterised by pycocotools they give the mask, exactly.

    Raises:
        ValueError: If the inset is out of range.
    """
    if not 0 <= inset < 0.5:
        raise ValueError(f"An inset must lie from 0 to below 0.5 px, got {inset}.")
    lattice = trace(mask)
    points = (lattice.corners + inset * lattice.towards).tolist()
    cuts = _cuts(lattice, points, inset)
    rings = {hole.ring[0]: hole.ring for hole in lattice.holes}
    found = []
    for part in lattice.parts:
        if tolerance > 0:
            around = [
                np.array([points[k] for k in ring])
                for ring in _bounds(part, rings, cuts)
            ]
            found.append(_joined_rings(simplified(around, tolerance), (left, top)))
            continue
        walked, num_holes = _walk(part, points, rings, cuts)
        walked += (left, top)
        found.append(Polygon(_without_repeats(walked), num_holes))
    return found


def joined(parts: list[Polygon]) -> Joined:
    """Joins polygons to one by bridges of width 0, each walked there and back.

    A bridge goes from each part to the nearest vertex of the parts before it. Between
    pixels that touch at a corner it covers no pixel; elsewhere a rasteriser that draws
    outlines shows it as a line.

    Args:
        parts: At least one polygon.
    """
    vertices = np.concatenate([part.points for part in parts])
    starts = [0, *np.cumsum([len(part.points) for part in parts]).tolist()]
    reach = max(256, _MAX_PAIRS // len(vertices))
    bridges: dict[int, list[int]] = {}  # vertex of an earlier part to later vertices
    num_bridges = 0
    for start, end in zip(starts[1:], starts[2:]):
        first = max(0, start - reach)
        old, new, distance = _nearest(vertices[first:start], vertices[start:end])
        bridges.setdefault(first + old, []).append(start + new)
        num_bridges += distance > _TOUCHING
    points = vertices[_tour(starts, bridges)]
    num_holes = sum(part.num_holes for part in parts)
    return Joined(_without_repeats(points), num_holes, num_bridges)


_Cuts = dict[int, list[tuple[float, float, int]]]


def _cuts(lattice: Lattice, points: list[list[float]], inset: float) -> _Cuts:
    """Per corner, the cuts that end on the edge east of it: (x, y, hole), by x."""
    cuts: _Cuts = {}
    for hole in lattice.holes:
        x = points[hole.ring[0]][0]
        cuts.setdefault(hole.corner, []).append((x, hole.y + inset, hole.ring[0]))
    for found in cuts.values():
        found.sort()
    return cuts


def _walk(
    part: list[int],
    points: list[list[float]],
    rings: dict[int, list[int]],
    cuts: _Cuts,
) -> tuple[np.ndarray, int]:
    """The vertices of a ring, with a detour around every hole that is cut free."""
    walked: list[list[float]] = []
    num_holes = 0
    # What is left to do, last first: a corner to pass, or a vertex to write down.
    todo: list[int | list[float]] = list(reversed(part))
    while todo:
        step = todo.pop()
        if isinstance(step, list):
            walked.append(step)
            continue
        walked.append(points[step])
        for x, y, start in reversed(cuts.get(step, [])):
            num_holes += 1
            todo += [[x, y], points[start], *reversed(rings[start]), [x, y]]
    return np.array(walked), num_holes


def _bounds(
    part: list[int], rings: dict[int, list[int]], cuts: _Cuts
) -> list[list[int]]:
    """The outline of a part, then its holes."""
    bounds = [part]
    for ring in bounds:  # grows: a hole may be cut free towards another hole
        holes = [hole for corner in ring for _, _, hole in cuts.get(corner, [])]
        bounds += [rings[hole] for hole in holes]
    return bounds


def _joined_rings(rings: list[np.ndarray], origin: tuple[int, int]) -> Polygon:
    """An outline and its holes as one polygon."""
    whole = joined([Polygon(ring + origin, 0) for ring in rings])
    return Polygon(whole.points, len(rings) - 1)


def _tour(starts: list[int], bridges: dict[int, list[int]]) -> list[int]:
    """The vertices of the first part, with a detour through each part joined to it."""
    tour: list[int] = []
    todo = [(vertex, False) for vertex in reversed(range(starts[1]))]
    while todo:
        vertex, is_return = todo.pop()
        tour.append(vertex)
        for entry in [] if is_return else reversed(bridges.get(vertex, [])):
            part = bisect_right(starts, entry)
            ring = [*range(entry, starts[part]), *range(starts[part - 1], entry)]
            todo += [(vertex, True), (entry, True)]
            todo += [(other, False) for other in reversed(ring)]
    return tour


def _nearest(old: np.ndarray, new: np.ndarray) -> tuple[int, int, float]:
    """Indices of the two nearest vertices of two rings, and their squared distance."""
    best = (0, 0, np.inf)
    for start in range(0, len(new), 256):
        offsets = old[:, None] - new[None, start : start + 256]
        distances = np.square(offsets).sum(axis=-1)
        place = int(distances.argmin())
        if distances.flat[place] < best[2]:
            row, column = divmod(place, distances.shape[1])
            best = (row, start + column, float(distances.flat[place]))
    return best


def _without_repeats(points: np.ndarray) -> np.ndarray:
    """Leaves out vertices that repeat the one before."""
    return points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
