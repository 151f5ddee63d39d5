"""Masks that were made elsewhere as objects to look at, the doubtful ones first."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from exits_jax.annotate.events import Quality, Rle, Thing
from exits_jax.annotate.folder import Picture, sized
from exits_jax.data.coco_file import CocoFile
from exits_jax.data.masks import decode_mask
from exits_jax.data.records import AnnotationError
from exits_jax.data.rle import encode


class Source(NamedTuple):
    """What a file of masks holds."""

    pictures: list[Picture]
    categories: list[dict[str, Any]]
    things: list[Thing]
    rest: dict[str, Any]  # further fields of the top level


def read_source(path: Path, folder: Path) -> Source:
    """Reads a COCO instances file; nothing is ever written to it.

    Args:
        path: The file, such as the `pseudo_masks.json` of a run.
        folder: Its images.

    Raises:
        FileNotFoundError: If the file or the folder does not exist.
        AnnotationError: If it is no instances file, or a mask in it is broken.
    """
    source = CocoFile.read(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"Image folder {folder} does not exist.")
    entries = [
        (image["id"], str(image.get("file_name")), image) for image in source.images
    ]
    pictures = sized(folder, entries)
    sizes = {picture.id: picture.size for picture in pictures}
    things = [
        _thing(f"s{place}", record, sizes)
        for place, record in enumerate(source.annotations)
    ]
    return Source(pictures, list(source.categories), things, dict(source.rest))


def worst_first(things: Sequence[Thing]) -> list[Thing]:
    """Objects in the order in which to look at them: the lowest score first.

    What has no mask comes before all others, what has no score after.
    """
    return sorted(things, key=_doubt)


def _doubt(thing: Thing) -> float:
    if thing.rle is None:
        return -1.0
    return 2.0 if thing.quality is None else thing.quality.score


def _thing(
    key: str, record: dict[str, Any], sizes: dict[int | str, tuple[int, int]]
) -> Thing:
    points, marks = record.get("extreme_points"), record.get("exits") or {}
    clicks = None
    if isinstance(points, list) and len(points) == 4:
        clicks = [(float(x), float(y)) for x, y in points]
    rle = _rle(record, sizes)
    return Thing(
        key=key,
        id=record["id"],
        image=record["image_id"],
        category=record["category_id"],
        status="done",
        clicks=clicks,
        rle=rle,
        quality=None if rle is None else _quality(marks),
        by="" if rle is None else "model",
        base=record,
    )


def _quality(marks: dict[str, Any]) -> Quality | None:
    fields = {name: marks.get(name) for name in Quality.__struct_fields__}
    try:
        return msgspec.convert(fields, Quality)
    except msgspec.ValidationError:
        return None


def _rle(record: dict[str, Any], sizes: dict[int | str, tuple[int, int]]) -> Rle | None:
    found, size = record.get("segmentation"), sizes.get(record["image_id"], (0, 0))
    if not found or 0 in size:
        return None
    try:
        rle = encode(decode_mask(found, *size))
    except AnnotationError as error:
        problem = error.problems[0]
        said = f"Annotation {record['id']!r:.80}: {problem.message}"
        raise AnnotationError(said, [problem]) from None
    return Rle(tuple(rle["size"]), rle["counts"])
