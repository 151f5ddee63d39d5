"""Outlines with fewer vertices, for people who edit them.

Douglas and Peucker's algorithm keeps some of the vertices, so that no other one is
farther from the new outline than the tolerance. On its own it may let an outline cross
itself or a hole, or flatten a part to nothing; there, less is left out.
"""

import cv2
import numpy as np

_FINEST_PX = 0.4  # below, a staircase of pixels keeps all of its vertices
_SHARE = 0.25  # of a part's thickness: small and thin parts keep their form
_CHUNK = 512  # edges compared with all others at a time


def simplified(rings: list[np.ndarray], tolerance: float) -> list[np.ndarray]:
    """Leaves vertices out of the rings of one part.

    Args:
        rings: float64 [n, 2] each, (x, y) px: the outline, then the holes.
        tolerance: How far vertices that are left out may be from the result, px. Where
            a part is small, or the result would not be sound, less is made of it.

    Returns:
        As many rings, of at least three of their vertices each, in the same sense of
        rotation. No edge crosses another, and holes are inside of the outline.
    """
    tolerance = min(tolerance, _SHARE * _thickness(rings))
    while tolerance >= _FINEST_PX:
        found = [_thinned(ring, tolerance) for ring in rings]
        if _is_sound(found, rings):
            return found
        tolerance /= 2
    return rings


def _thickness(rings: list[np.ndarray]) -> float:
    """Twice the area over the length of all edges: the width of a long strip."""
    edges = [ring - np.roll(ring, 1, axis=0) for ring in rings]
    length = sum(float(np.hypot(*edge.T).sum()) for edge in edges)
    return abs(sum(map(_area, rings))) / length


def _thinned(ring: np.ndarray, tolerance: float) -> np.ndarray:
    points = ring.astype(np.float32)[:, None]
    return cv2.approxPolyDP(points, tolerance, True)[:, 0].astype(np.float64)


def _is_sound(rings: list[np.ndarray], exact: list[np.ndarray]) -> bool:
    """Whether rings bound a part: none flat or turned around, no crossing."""
    if any(len(ring) < 3 for ring in rings):
        return False
    if any(_area(ring) * _area(old) <= 0 for ring, old in zip(rings, exact)):
        return False
    if _has_crossing(rings):
        return False
    outline = rings[0].astype(np.float32)[:, None]
    holes = [ring[0].tolist() for ring in rings[1:]]
    return all(cv2.pointPolygonTest(outline, hole, False) >= 0 for hole in holes)


def _area(ring: np.ndarray) -> float:
    """Twice the signed area."""
    x, y = ring.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1))


def _has_crossing(rings: list[np.ndarray]) -> bool:
    """Whether two edges cross; to touch at a vertex is no crossing."""
    starts = np.concatenate(rings)
    ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    for first in range(0, len(starts), _CHUNK):
        some = slice(first, first + _CHUNK)
        a, b = starts[some, None], ends[some, None]
        sides = _side(a, b, starts[None]) * _side(a, b, ends[None])
        others = _side(starts[None], ends[None], a) * _side(starts[None], ends[None], b)
        if ((sides < 0) & (others < 0)).any():
            return True
    return False


def _side(start: np.ndarray, end: np.ndarray, point: np.ndarray) -> np.ndarray:
    """On which side of a line a point is: -1, 0 or 1."""
    along, offset = end - start, point - start
    return np.sign(along[..., 0] * offset[..., 1] - along[..., 1] * offset[..., 0])
