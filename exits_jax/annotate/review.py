"""Masks that were made elsewhere as objects to look at, the doubtful ones first."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from exits_jax.annotate.events import Quality, Rle, Thing
from exits_jax.annotate.folder import Picture, sized
from exits_jax.data.coco_file import CocoFile
from exits_jax.data.masks import decode_mask
from exits_jax.data.records import AnnotationError, fault, is_id
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
        FileNotFoundError: If the file or the folder does not exist, or no image of the
            file can be read.
        AnnotationError: If it is no instances file, or a record or a mask in it is
            broken (E102 names the entry, from 0).
    """
    source = CocoFile.read(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"Image folder {folder} does not exist.")
    entries = [
        (image["id"], str(image.get("file_name")), image) for image in source.images
    ]
    pictures = sized(folder, entries)
    if pictures and all(each.fault for each in pictures):
        raise FileNotFoundError(
            f"None of the {len(pictures)} images of {path} can be read from {folder}; "
            f"of the first: {pictures[0].fault}"
        )
    sizes = {picture.id: picture.size for picture in pictures}
    things = [
        _checked_thing(f"s{place}", record, sizes, f"{path}: annotation entry {place}")
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


def read_again(thing: Thing, size: tuple[int, int]) -> None:
    """Reads the mask of an object whose image could not be read when it was made.

    Args:
        thing: Changed in place.
        size: (height, width) of its image.

    Raises:
        AnnotationError: If the mask is broken.
    """
    made = _thing(thing.key, thing.base, {thing.base["image_id"]: size})
    thing.rle, thing.unread = made.rle, False
    thing.quality = thing.quality or made.quality
    thing.by = thing.by or made.by


def _checked_thing(
    key: str, record: Any, sizes: dict[int | str, tuple[int, int]], name: str
) -> Thing:
    if not isinstance(record, dict):
        raise fault("E102", f"{name} is not a JSON object that can be read.")
    for field in ("id", "image_id", "category_id"):
        if not is_id(record.get(field)):
            raise fault(
                "E102",
                f"{name}: `{field}` is {record.get(field)!r:.80}; expected a whole "
                "number or a text.",
            )
    try:
        return _thing(key, record, sizes)
    except AnnotationError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise fault("E102", f"{name} cannot be used: {error}.") from error


def _thing(
    key: str, record: dict[str, Any], sizes: dict[int | str, tuple[int, int]]
) -> Thing:
    points, marks = record.get("extreme_points"), record.get("exits") or {}
    clicks = None
    if isinstance(points, list) and len(points) == 4:
        clicks = [(float(x), float(y)) for x, y in points]
    is_unread = 0 in sizes.get(record["image_id"], (0, 0))
    rle = None if is_unread else _rle(record, sizes[record["image_id"]])
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
        unread=is_unread,
    )


def _quality(marks: dict[str, Any]) -> Quality | None:
    fields = {name: marks.get(name) for name in Quality.__struct_fields__}
    try:
        return msgspec.convert(fields, Quality)
    except msgspec.ValidationError:
        return None


def _rle(record: dict[str, Any], size: tuple[int, int]) -> Rle | None:
    found = record.get("segmentation")
    if not found:
        return None
    try:
        rle = encode(decode_mask(found, *size))
    except AnnotationError as error:
        problem = error.problems[0]
        said = f"Annotation {record['id']!r:.80}: {problem.message}"
        raise AnnotationError(said, [problem]) from None
    return Rle(tuple(rle["size"]), rle["counts"])
