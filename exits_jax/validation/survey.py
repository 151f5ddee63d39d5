"""What an annotation file with its images holds, counted, and what is to be known."""

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from exits_jax.data.annotations import Dataset
from exits_jax.data.coco_file import CocoFile
from exits_jax.data.images import IMAGE_REMARKS, ImageError, image_remarks
from exits_jax.data.records import FLAG_CODES, Problem, is_id
from exits_jax.data.table import Instances
from exits_jax.data.usable import mostly_crowds, same_classes, same_images

_PERCENT, _MIN_FOR_PERCENT = 100, 10  # coordinates; objects that make it a pattern


class Remark(NamedTuple):
    """Something to know about records or images that are used all the same."""

    code: str
    subject: str  # "annotations", "images" or "categories"
    names: list[Any]  # annotation ids, file names, or names of categories


class Survey(NamedTuple):
    """A checked file, summed up."""

    source: CocoFile
    instances: Instances  # usable, crowd regions among them
    problems: list[Problem]  # one for each record that has to be left out
    damaged_masks: list[Problem]  # of records that are used by their box
    remarks: list[Remark]  # by code
    counts: dict[str, int]


def survey(found: Dataset) -> Survey:
    """Sums up a file whose records and images have been checked.

    The headers of the images are read again, for what a reader leaves out of them.

    Args:
        found: Its usable objects and its problems.
    """
    source, instances, problems, damaged_masks = found
    usable = set(instances.position.tolist())
    remarks = (
        _remarks_of_records(instances)
        + _remarks_of_images(instances)
        + _remarks_of_names(source)
        + _remarks_of_crowds(instances)
    )
    return Survey(
        source=source,
        instances=instances,
        problems=problems,
        damaged_masks=[mask for mask in damaged_masks if mask.position in usable],
        remarks=sorted(remarks, key=lambda remark: remark.code),
        counts=_counts(source, instances),
    )


def _remarks_of_records(instances: Instances) -> list[Remark]:
    found: dict[str, list[Any]] = defaultdict(list)
    for item in instances:
        for flag in item.flags:
            if not (item.is_crowd and flag == "box_only"):  # crowds never have points
                found[FLAG_CODES[flag]].append(item.annotation_id)
    objects = ~instances.is_crowd
    if objects.sum() >= _MIN_FOR_PERCENT:
        sizes = instances.image_sizes[np.unique(instances.image[objects])]
        if instances.boxes[objects].max() <= _PERCENT + 1 < sizes.min() / 2:
            found["W209"] = [item.annotation_id for item in instances.select(objects)]
    return [Remark(code, "annotations", ids) for code, ids in found.items()]


def _remarks_of_images(instances: Instances) -> list[Remark]:
    def look(row: int) -> tuple[str, ...]:
        try:
            return image_remarks(instances.paths[row])
        except (ImageError, OSError):  # changed since it was checked; nothing to remark
            return ()

    rows: list[int] = np.unique(instances.image).tolist()
    found: dict[str, list[str]] = defaultdict(list)
    with ThreadPoolExecutor() as pool:
        for row, flags in zip(rows, pool.map(look, rows)):
            for flag in flags:
                found[IMAGE_REMARKS[flag]].append(str(instances.paths[row]))
    return [Remark(code, "images", files) for code, files in found.items()]


def _remarks_of_crowds(instances: Instances) -> list[Remark]:
    if not mostly_crowds(instances):
        return []
    crowds = instances.select(instances.is_crowd)
    return [Remark("W219", "annotations", [item.annotation_id for item in crowds])]


def _remarks_of_names(source: CocoFile) -> list[Remark]:
    found = [
        Remark("W106", "images", same_images(source)),
        Remark("W108", "categories", same_classes(source)),
    ]
    return [remark for remark in found if remark.names]


def _counts(source: CocoFile, instances: Instances) -> dict[str, int]:
    """Numbers of the file as it is, and of what can be used of it."""
    annotated: set[int | str] = set()
    given: set[int] = set()
    with_masks = 0
    for position in range(len(source.annotations)):
        record = record_at(source, position)
        if is_id(record.get("image_id")):
            annotated.add(record["image_id"])
        if record.get("extreme_points"):
            given.add(position)
        with_masks += bool(record.get("segmentation"))
    objects = ~instances.is_crowd
    pointed = instances.has_points & objects
    clicked = sum(
        position in given for position in instances.position[pointed].tolist()
    )
    return {
        "images": len(source.image_ids),
        "images_without_annotations": len(set(source.image_ids) - annotated),
        "categories": len(source.categories),
        "annotations": len(source.annotations),
        "with_masks": with_masks,
        "usable": len(instances),
        "with_extreme_points": clicked,
        "points_from_masks": int(pointed.sum()) - clicked,
        "box_only": int((objects & ~instances.has_points).sum()),
        "crowds": int(instances.is_crowd.sum()),
    }


def record_at(source: CocoFile, position: int) -> dict[str, Any]:
    """A record as the file has it; an empty one where that cannot be parsed.

    Args:
        source: The file.
        position: Its place among the annotations.
    """
    try:
        record: Any = source.annotations[position]
    except ValueError:  # is listed among the problems
        return {}
    return record if isinstance(record, dict) else {}
