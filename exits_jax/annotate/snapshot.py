"""What is known as a COCO JSON, which the other commands read as it is, and back."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from exits_jax.annotate.events import Quality, Rle, Thing
from exits_jax.annotate.folder import Picture
from exits_jax.data import rle as run_lengths
from exits_jax.data.records import AnnotationError, check_points
from exits_jax.files.json_files import json_text, write_json_lists
from exits_jax.importers.clicks import in_order

_DECIMALS = 2


def write_snapshot(
    path: Path,
    pictures: Iterable[Picture],
    categories: Sequence[dict[str, Any]],
    records: Iterable[str],
    notes: dict[str, Any],
    rest: dict[str, Any],
) -> None:
    """Writes the file in one step that a power cut cannot halve.

    Args:
        path: The file.
        pictures: Images; of those that cannot be read, what a file said of them.
        categories: Classes.
        records: Annotations, as JSON texts.
        notes: What else a later start has to know; goes to `info`.
        rest: Further fields of the top level.

    Raises:
        OSError: If the disk does not take it; an older file is untouched.
    """
    info = dict(rest.get("info") or {})
    info["exits_jax"] = {**(info.get("exits_jax") or {}), "annotate": notes}
    images = (
        json_text(dict(each.base) if each.fault else image_record(each))
        for each in pictures
        if each.base or not each.fault
    )
    write_json_lists(
        path,
        {**rest, "info": info, "categories": list(categories)},
        {"images": images, "annotations": records},
    )


def image_record(picture: Picture) -> dict[str, Any]:
    """An entry of `images`."""
    height, width = picture.size
    return {
        **picture.base,
        "id": picture.id,
        "file_name": picture.name,
        "height": height,
        "width": width,
    }


def unread_record(thing: Thing) -> dict[str, Any]:
    """The entry of an object whose mask was never read: as it came, with its key."""
    marks = thing.base.get("exits")
    marks = marks if isinstance(marks, dict) else {}
    return {**thing.base, "exits": {**marks, "key": thing.key}}


def record_of(thing: Thing, size: tuple[int, int]) -> dict[str, Any] | None:
    """An entry of `annotations`; None where there is no usable object yet.

    Args:
        thing: What is known of it.
        size: (height, width) of its image.
    """
    if thing.status != "done":
        return None
    made = _placed(thing, size)
    if made is None:
        return None
    record = {
        **thing.base,
        "id": thing.id,
        "image_id": thing.image,
        "category_id": thing.category,
        **made,
        "iscrowd": thing.base.get("iscrowd", 0),
    }
    marks: dict[str, Any] = {"key": thing.key}
    if thing.by:
        marks["by"] = thing.by
    if thing.seconds:
        marks["seconds"] = round(thing.seconds, 2)
    if thing.threshold is not None:
        marks["threshold"] = thing.threshold
    if thing.rle is None:
        for name in ("segmentation", "score"):
            record.pop(name, None)
        record["area"] = record["bbox"][2] * record["bbox"][3]
        return {**record, "exits": marks}
    rle = {"size": list(thing.rle.size), "counts": thing.rle.counts}
    area = run_lengths.area(rle)
    if not area:
        return None
    record |= {"segmentation": rle, "area": area}
    if thing.quality is not None:
        marks |= msgspec.to_builtins(thing.quality)
        record["score"] = thing.quality.score
    return {**record, "exits": marks}


def thing_of(record: dict[str, Any]) -> Thing:
    """An object from its entry of `annotations`, as `record_of` made it."""
    marks = record["exits"]
    rle, points = record.get("segmentation"), record.get("extreme_points")
    quality = None
    if rle is not None and "score" in marks:
        fields = {name: marks.get(name) for name in Quality.__struct_fields__}
        quality = msgspec.convert(fields, Quality)
    own = {"id", "image_id", "category_id", "exits", "segmentation", "area"}
    if quality is not None:  # a score of others, without our marks, stays theirs
        own.add("score")
    return Thing(
        key=marks["key"],
        id=record["id"],
        image=record["image_id"],
        category=record["category_id"],
        status="done",
        clicks=None if points is None else [(x, y) for x, y in points],
        rle=None if rle is None else Rle(tuple(rle["size"]), rle["counts"]),
        quality=quality,
        threshold=marks.get("threshold"),
        by=marks.get("by", ""),
        seconds=marks.get("seconds", 0.0),
        base={name: value for name, value in record.items() if name not in own},
    )


def _placed(thing: Thing, size: tuple[int, int]) -> dict[str, Any] | None:
    """Extreme points and box; None where there are neither."""
    base = thing.base
    if thing.clicks is not None and len(thing.clicks) == 4:
        points = [(float(x), float(y)) for x, y in thing.clicks]
        given = base.get("extreme_points")
        if given == [list(point) for point in points] and _has_box(base):
            return {"extreme_points": given, "bbox": base["bbox"]}  # nobody moved them
        try:
            placed, box, _ = check_points(in_order(points), None, size, thing.key)
        except AnnotationError:
            return None
        x0, y0, x1, y1 = box
        rounded = [[round(float(v), _DECIMALS) for v in point] for point in placed]
        return {"extreme_points": rounded, "bbox": [x0, y0, x1 - x0, y1 - y0]}
    if _has_box(base):
        return {"bbox": base["bbox"]}
    if thing.rle is not None:
        rle = {"size": list(thing.rle.size), "counts": thing.rle.counts}
        return {"bbox": run_lengths.bounding_box(rle)}
    return None


def _has_box(base: dict[str, Any]) -> bool:
    box = base.get("bbox")
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(type(side) in (int, float) and math.isfinite(side) for side in box)
    )
