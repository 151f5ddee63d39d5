"""Masks that need no training: what a method has to beat."""

from __future__ import annotations

import math

import cv2
import numpy as np

Box = tuple[float | int, float | int, float | int, float | int]


def box_mask(box: Box, image_size: tuple[int, int]) -> np.ndarray:
    """The filled box.

    Args:
        box: xyxy px, right and bottom exclusive.
        image_size: (height, width).

    Returns:
        bool [height, width]: every pixel that the box touches, at least one.
    """
    left, top, right, bottom = _pixels(box, image_size)
    mask = np.zeros(image_size, bool)
    mask[top:bottom, left:right] = True
    return mask


def octagon_mask(
    extreme_points: np.ndarray | None, box: Box, image_size: tuple[int, int]
) -> np.ndarray:
    """An octagon through the clicks, drawn without a look at the image.

    On each side of the box a segment of a quarter of that side has the click in its
    middle, as far as it fits onto the side; the segments' ends are the corners
    (ExtremeNet, Zhou et al., CVPR 2019, makes its octagons so).

    Args:
        extreme_points: [4, 2], top, left, bottom, right as (x, y), numbers of pixels;
            None for a box alone, which is filled.
        box: xyxy px, right and bottom exclusive.
        image_size: (height, width).

    Returns:
        bool [height, width]: pixels with their centre in the octagon. The filled box
        where there is none.
    """
    filled = box_mask(box, image_size)
    if extreme_points is None:
        return filled
    x0, y0, x1, y1 = box
    at = np.asarray(extreme_points, np.float64) + 0.5  # edges of pixel 0 are 0 and 1
    along_x = lambda x: np.clip((x - (x1 - x0) / 8, x + (x1 - x0) / 8), x0, x1)
    along_y = lambda y: np.clip((y - (y1 - y0) / 8, y + (y1 - y0) / 8), y0, y1)
    top, bottom = along_x(at[0, 0]), along_x(at[2, 0])
    left, right = along_y(at[1, 1]), along_y(at[3, 1])
    rows, columns = (np.arange(size) + 0.5 for size in image_size)
    # All corners lie on the box: each row of the octagon is one run.
    start = np.interp(rows, [y0, *left, y1], [top[0], x0, x0, bottom[0]])
    stop = np.interp(rows, [y0, *right, y1], [top[1], x1, x1, bottom[1]])
    mask = (columns >= start[:, None]) & (columns <= stop[:, None])
    mask &= ((rows >= y0) & (rows <= y1))[:, None]
    return mask if mask.any() else filled


def grabcut_mask(
    image: np.ndarray,
    box: Box,
    *,
    margin: float = 0.3,
    max_side: int = 256,
    rounds: int = 5,
) -> np.ndarray:
    """GrabCut that knows the box only.

    Args:
        image: uint8 [height, width, 3] RGB.
        box: xyxy px, right and bottom exclusive.
        margin: Width of the surroundings that show the background, as a share of
            the box's sides, on each side.
        max_side: Longest side of the crop after scaling, in pixels.
        rounds: Iterations of GrabCut.

    Returns:
        bool [height, width], inside the box. The filled box where GrabCut finds no
        object or cannot start, as when the box leaves no background.
    """
    image_size = image.shape[0], image.shape[1]
    filled = box_mask(box, image_size)
    left, top, right, bottom = _pixels(box, image_size)
    wide, high = math.ceil(margin * (right - left)), math.ceil(margin * (bottom - top))
    rows = slice(max(top - high, 0), min(bottom + high, image_size[0]))
    columns = slice(max(left - wide, 0), min(right + wide, image_size[1]))
    crop, inside = image[rows, columns], filled[rows, columns].astype(np.uint8)
    if inside.all():
        return filled
    height, width = inside.shape
    scale = min(1.0, max_side / max(height, width))
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
    small_inside = cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST)
    labels = np.where(small_inside, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    try:
        cv2.setRNGSeed(0)  # its colour models start from k-means
        models = np.zeros((1, 65)), np.zeros((1, 65))
        no_box = (0, 0, 0, 0)  # the labels say it
        cv2.grabCut(small, labels, no_box, *models, rounds, cv2.GC_INIT_WITH_MASK)
    except cv2.error:
        return filled  # too few pixels for its colour models
    found = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    back = cv2.resize(
        found.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST
    )
    mask = np.zeros(image_size, bool)
    mask[rows, columns] = back.astype(bool)
    mask &= filled
    return mask if mask.any() else filled


def _pixels(box: Box, image_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The pixels that a box touches, clipped into the image, at least one."""
    height, width = image_size
    left = min(max(math.floor(box[0]), 0), width - 1)
    top = min(max(math.floor(box[1]), 0), height - 1)
    right = max(min(math.ceil(box[2]), width), left + 1)
    bottom = max(min(math.ceil(box[3]), height), top + 1)
    return left, top, right, bottom
