"""Masks as COCO run lengths, the way pycocotools writes and reads them."""

from __future__ import annotations

import warnings
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from exits_jax.data.row_run_lengths import row_runs


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


def encode_part(
    part: np.ndarray, *, left: int, top: int, image_size: tuple[int, int]
) -> dict[str, Any]:
    """Packs a mask of which a part of the image holds everything, as `encode` does.

    The time goes with the part, whatever the size of the image.

    Args:
        part: bool [h, w].
        left: Column of the image that is the part's first.
        top: Row of the image that is the part's first.
        image_size: (height, width) of the image.
    """
    height, width = image_size
    # COCO counts along the columns: those of the mask are the rows of its transpose.
    columns = cv2.transpose(part.view(np.uint8)).view(bool) if part.size else part.T
    counts = row_runs(columns, left=top, top=left, width=height, height=width)
    runs: Any = {"size": [height, width], "counts": counts}
    rle: Any = coco_mask.frPyObjects(runs, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


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
