"""How good one pseudo mask looks without knowing the true one."""

from __future__ import annotations

import cv2
import numpy as np

Box = tuple[float | int, float | int, float | int, float | int]


def click_tolerance(box: Box) -> float:
    """How far from a mask a click counts as hit: 2 px, or 2 % of the longer side."""
    return max(2.0, 0.02 * max(box[2] - box[0], box[3] - box[1]))


def click_hits(
    mask: np.ndarray,
    extreme_points: np.ndarray | None,
    tolerance_px: float | int,
    *,
    origin: tuple[int, int] = (0, 0),
) -> tuple[int, ...] | None:
    """Tells which clicks the mask reaches.

    Args:
        mask: bool [height, width], of the image or of a part of it.
        extreme_points: [4, 2], (x, y) px of the image, or None when there are none.
        tolerance_px: Largest distance from a click to the centre of a mask pixel.
        origin: (left, top) of the part.

    Returns:
        1 per click with a mask pixel within the tolerance, else 0, in the order of
        the clicks; None without clicks.
    """
    if extreme_points is None:
        return None
    height, width = mask.shape
    reach = int(np.ceil(tolerance_px)) + 1
    hits = []
    for x, y in np.asarray(extreme_points, np.float64) - origin:
        left, top = max(int(x) - reach, 0), max(int(y) - reach, 0)
        right, bottom = min(int(x) + reach + 1, width), min(int(y) + reach + 1, height)
        ys, xs = np.nonzero(mask[top : max(bottom, 0), left : max(right, 0)])
        distances = np.hypot(xs + left - x, ys + top - y)
        hits.append(int((distances <= tolerance_px).any()))
    return tuple(hits)


def box_tightness(
    mask: np.ndarray, box: Box, *, origin: tuple[int, int] = (0, 0)
) -> float:
    """IoU of the mask's own bounding box with the annotated box.

    Args:
        mask: bool [height, width], of the image or of a part of it.
        box: xyxy px of the image, right and bottom exclusive.
        origin: (left, top) of the part.

    Returns:
        A value in [0, 1]; 0 for an empty mask.
    """
    own = bounds(mask)
    if own is None:
        return 0.0
    left, top = origin
    own = own[0] + left, own[1] + top, own[2] + left, own[3] + top
    wide = min(own[2], box[2]) - max(own[0], box[0])
    high = min(own[3], box[3]) - max(own[1], box[1])
    common = max(wide, 0.0) * max(high, 0.0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (own, box)]
    return float(common / (sum(areas) - common))


def count_parts(mask: np.ndarray, min_fraction: float | int = 0.05) -> int:
    """Counts the 8-connected parts that hold at least a share of the mask.

    Args:
        mask: bool [height, width].
        min_fraction: Smallest share of the mask's pixels that makes a part.

    Returns:
        The number of parts; 0 for an empty mask.
    """
    own = bounds(mask)
    if own is None:
        return 0
    inner = mask[own[1] : own[3], own[0] : own[2]].astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(inner, connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return int((areas >= min_fraction * areas.sum()).sum())


def confidence(logits: np.ndarray, mask: np.ndarray) -> float:
    """Mean probability of the mask's pixels; 0 for an empty mask.

    Args:
        logits: float [height, width]; -inf counts as probability 0.
        mask: bool [height, width].
    """
    logits = np.clip(logits[mask].astype(np.float64), -80, 80)
    return float(np.mean(1 / (1 + np.exp(-logits)))) if logits.size else 0.0


def bounds(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Tight box of a mask, xyxy px, right and bottom exclusive; None when empty."""
    xs = np.flatnonzero(mask.any(axis=0))
    ys = np.flatnonzero(mask.any(axis=1))
    if not xs.size:
        return None
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1
