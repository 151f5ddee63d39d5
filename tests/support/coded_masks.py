"""Masks as RLE, coded by another hand than that of the package."""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask


def coded(mask):
    runs: Any = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": runs["counts"].decode()}


def listed(mask):
    counts, value = [], False
    for pixel in mask.T.ravel():
        if not counts:
            counts.append(0)
        if bool(pixel) != value:
            counts.append(0)
            value = bool(pixel)
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}
