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
