"""Recall on listed objects: how Separated COCO and Occluded COCO are evaluated.

The share of listed objects that a detection of their class with a score of at least 0.3
covers with a mask IoU of at least 0.75 (Zhan et al., 2022). A detection may serve
several objects.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from exits_jax.data.masks import checked_runs, polygon_rle
from exits_jax.evaluation.object_lists import (
    holds_masks,
    read_object_ids,
    read_object_list,
)
from exits_jax.labeling.mask_quality import count_parts
from exits_jax.stage2.errors import Stage2Error
from exits_jax.stage2.inputs.annotations import CocoJson

_MIN_SCORE, _MIN_IOU = 0.3, 0.75
_MIN_PART = 0.05  # share of the mask that makes a part of it

Rle = dict[str, Any]


class Target(NamedTuple):
    """An object that has to be found."""

    image_id: int | str
    category_id: int | str | None  # None: of a class that is not in the file
    rle: Rle


def recall(
    targets: Iterable[Target], found: Iterable[Mapping[str, Any]]
) -> float | None:
    """The share of the targets that a detection covers, percent; None without any."""
    candidates = defaultdict(list)
    for detection in found:
        if detection["score"] >= _MIN_SCORE:
            key = detection["image_id"], detection["category_id"]
            candidates[key].append(detection["segmentation"])
    hits = []
    for image_id, category_id, rle in targets:
        masks = candidates.get((image_id, category_id))
        ious = coco_mask.iou(masks, [rle], [0]) if masks else np.zeros(1)
        hits.append(ious.max() >= _MIN_IOU)
    return 100 * float(np.mean(hits)) if hits else None


def targets_of(
    truth: CocoJson, masks: Mapping[Any, Rle], path: Path | None
) -> tuple[list[Target], int]:
    """The objects to be found, and how many more are on images left out."""
    objects = {
        record["id"]: Target(
            record["image_id"], record["category_id"], masks[record["id"]]
        )
        for record in truth.annotations
        if not record.get("iscrowd")
    }
    if path is None:
        parts = ((t, coco_mask.decode(t.rle).astype(bool)) for t in objects.values())
        return [t for t, mask in parts if count_parts(mask, _MIN_PART) >= 2], 0
    try:
        if holds_masks(path):
            return _published(truth, path)
        ids = read_object_ids(path)
    except (OSError, ValueError) as error:
        raise Stage2Error(str(error)) from error
    listed = [target for name, target in objects.items() if name in ids]
    return listed, len(ids) - len(listed)


def check_list(path: Path) -> None:
    """Raises Stage2Error if a list of objects cannot be read."""
    try:
        read_object_ids(path)
    except (OSError, ValueError) as error:
        raise Stage2Error(str(error)) from error


def _published(truth: CocoJson, path: Path) -> tuple[list[Target], int]:
    """A list that brings class and mask of each object with it."""
    images = {Path(_file_name(image)).name: image for image in truth.images}
    categories = {each["name"]: each["id"] for each in truth.content["categories"]}
    known = {record["id"]: record["category_id"] for record in truth.annotations}
    entries = read_object_list(path)
    here = [entry for entry in entries if entry.file_name in images]
    targets = []
    for entry in here:
        image = images[entry.file_name]
        rle = rle_of(entry.segmentation, image, f"{path}, object {entry.annotation_id}")
        # The file goes first: its classes may have been made one.
        by_name = categories.get(entry.class_name)
        category = known.get(entry.annotation_id, by_name)
        targets.append(Target(image["id"], category, rle))
    return targets, len(entries) - len(here)


def _file_name(image: Mapping[str, Any]) -> str:
    return image.get("file_name") or image.get("coco_url", "")  # LVIS v1 has the latter


def true_masks(truth: CocoJson) -> dict[Any, Rle]:
    """The masks by annotation id; Stage2Error for one that cannot be read."""
    images = {image["id"]: image for image in truth.images}
    return {
        record["id"]: rle_of(
            record["segmentation"],
            images[record["image_id"]],
            f"{truth.path}, object {record['id']}",
        )
        for record in truth.annotations
    }


def rle_of(segmentation: Any, image: Mapping[str, Any], name: str) -> Rle:
    """Polygons or run lengths as compressed run lengths of the size of the image."""
    height, width = image["height"], image["width"]
    try:
        if not isinstance(segmentation, dict):
            return polygon_rle(segmentation, height, width)
        checked_runs(segmentation, height, width)
        if isinstance(segmentation["counts"], list):
            return coco_mask.frPyObjects(segmentation, height, width)
        return segmentation
    except Exception as error:  # pycocotools fails with many types
        raise Stage2Error(f"{name}: its mask cannot be read: {error}") from error
