"""Masks as COCO run lengths, the way pycocotools writes and reads them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Packs a mask into a compressed RLE that fits into JSON.

    Args:
        mask: bool [height, width].

    Returns:
        `{"size": [height, width], "counts": str}`.

    Raises:
        ValueError: If the mask is not a boolean image.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(
            f"A mask must be bool [height, width], got {mask.dtype} {mask.shape}."
        )
    rle: Any = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    size = [int(side) for side in mask.shape]
    return {"size": size, "counts": rle["counts"].decode("ascii")}


def decode(rle: dict[str, Any]) -> np.ndarray:
    """Unpacks a compressed RLE into a mask, bool [height, width]."""
    with warnings.catch_warnings():
        # pycocotools still uses an array protocol that NumPy 2 has deprecated.
        warnings.filterwarnings("ignore", "__array__ implementation")
        return coco_mask.decode(_native(rle)).astype(bool)


def area(rle: dict[str, Any]) -> int:
    """Number of pixels in the mask of a compressed RLE."""
    return int(coco_mask.area(_native(rle)))


def bounding_box(rle: dict[str, Any]) -> list[float]:
    """Box of the mask of a compressed RLE, [x, y, width, height] in pixels."""
    return [float(value) for value in coco_mask.toBbox(_native(rle))]


def _native(rle: dict[str, Any]) -> Any:
    counts = rle["counts"]
    packed = counts.encode("ascii") if isinstance(counts, str) else counts
    return {"size": list(rle["size"]), "counts": packed}
