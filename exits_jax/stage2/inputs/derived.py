"""COCO files made from others: boxes in the place of masks, one class for all."""

from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from exits_jax.files.json_files import write_json
from exits_jax.stage2.inputs.annotations import CocoJson


def write_box_masks(coco: CocoJson, path: Path) -> None:
    """Writes the file again with each object's whole box as its mask.

    The floor that any mask has to beat. Crowd regions stay as they are. A pixel belongs
    to the box if its centre does.
    """
    sizes = {image["id"]: (image["height"], image["width"]) for image in coco.images}
    filled = [
        record if record.get("iscrowd") else _as_box(record, *sizes[record["image_id"]])
        for record in coco.annotations
    ]
    write_json(path, coco.content | {"annotations": filled})


def write_single_class(coco: CocoJson, path: Path) -> None:
    """Writes the file again with the one class "object" for all of its objects."""
    records = [record | {"category_id": 1} for record in coco.annotations]
    categories = [{"id": 1, "name": "object"}]
    write_json(path, coco.content | {"annotations": records, "categories": categories})


def _as_box(record: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    x, y, w, h = record["bbox"]
    mask = np.zeros((height, width), np.uint8, order="F")
    # Centres are at half pixels; a box thinner than a pixel keeps the one it is in.
    left, top = max(int(np.floor(x + 0.5)), 0), max(int(np.floor(y + 0.5)), 0)
    right, bottom = int(np.floor(x + w + 0.5)), int(np.floor(y + h + 0.5))
    left, top = min(left, width - 1), min(top, height - 1)
    mask[top : max(bottom, top + 1), left : max(right, left + 1)] = 1
    rle = coco_mask.encode(mask)
    return record | {
        "segmentation": {"size": [height, width], "counts": rle["counts"].decode()},
        "area": int(coco_mask.area(rle)),
    }
