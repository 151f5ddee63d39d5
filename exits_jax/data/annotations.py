"""The reader of COCO instance files: every record is checked here, and only here.

Faults of the file itself always raise; faults of single records are collected and
raised together or listed, as the caller chooses.
"""

import codecs
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from exits_jax.data.images import ImageError, check_image
from exits_jax.data.records import (
    FLAG_CODES,
    MAX_NUMBER,
    SIDES,
    AnnotationError,
    Instance,
    Problem,
    StoredImage,
    fault,
    is_id,
    read_instance,
)

__all__ = [
    "FLAG_CODES",
    "ON_BAD",
    "SIDES",
    "AnnotationError",
    "Dataset",
    "Instance",
    "Problem",
    "check_source",
    "fault",
    "is_id",
    "read_instances",
    "read_source",
]

ON_BAD = ("error", "skip")
_MAX_LISTED = 20
_URL_OR_DRIVE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|data:|[A-Za-z]:[\\/]")


class Dataset(NamedTuple):
    """What an instances file holds, and which of its records were left out."""

    source: dict  # the parsed JSON, untouched
    instances: list[Instance]
    skipped: list[Problem]


def read_instances(
    annotations: str | Path,
    images: str | Path,
    *,
    on_bad: str = "skip",
    max_skip_fraction: float | int = 0.5,
) -> Dataset:
    """Reads a COCO instances file and checks every record.

    A record has `extreme_points`, four (x, y) in the order top, left, bottom, right, or
    only a `bbox` (flag "box_only"). Ids are kept as they are. Where points and box
    disagree, the points win. A file without annotations gives an empty dataset.

    Args:
      annotations: the JSON file; LVIS files without `file_name` are fine.
      images: the folder that `file_name` is relative to.
      on_bad: "error" raises all faulty records together, "skip" lists them in
        `Dataset.skipped`.
      max_skip_fraction: the largest part of the records that may be skipped, 0 to 1.

    Returns:
      The usable instances in file order.

    Raises:
      ValueError: `on_bad` or `max_skip_fraction` is not one of the choices.
      FileNotFoundError: the file or the folder does not exist.
      AnnotationError: the file is not an instances file, records are faulty and
        `on_bad` is "error", or too many of them would be skipped.
    """
    if on_bad not in ON_BAD:
        raise ValueError(f"on_bad is {on_bad!r}; choose one of {', '.join(ON_BAD)}.")
    if not 0 <= max_skip_fraction <= 1:
        raise ValueError(f"max_skip_fraction is {max_skip_fraction}; expected 0 to 1.")
    if not os.path.isdir(images):
        raise FileNotFoundError(f"Image folder {images} does not exist.")
    source = read_source(annotations)
    records = source["annotations"]
    image_records = {image["id"]: image for image in source["images"]}
    categories = {category["id"] for category in source["categories"]}
    found: dict[int | str, StoredImage | AnnotationError] = {}
    instances: list[Instance] = []
    skipped: list[Problem] = []
    seen: set[int | str] = set()
    for position, record in enumerate(records):
        annotation_id = None
        try:
            annotation_id = _annotation_id(record, position)
            if annotation_id in seen:
                raise fault(
                    "E105",
                    f"Annotation {annotation_id!r}: entry {position} repeats this id; "
                    "the first record with it is kept. Ids must be unique.",
                )
            seen.add(annotation_id)
            image_id = record.get("image_id")
            if not is_id(image_id) or image_id not in image_records:
                raise fault(
                    "E107",
                    f"Annotation {annotation_id!r}: image_id {image_id!r:.40} is not "
                    "among the images.",
                )
            if image_id not in found:
                found[image_id] = _find_image(image_records[image_id], str(images))
            image = found[image_id]
            if isinstance(image, AnnotationError):
                _, code, message = image.problems[0]
                raise fault(code, f"Annotation {annotation_id!r}: {message}")
            instances.append(read_instance(record, image, categories))
        except AnnotationError as error:
            skipped.append(error.problems[0]._replace(annotation_id=annotation_id))
    _enforce(skipped, len(records), str(annotations), on_bad, max_skip_fraction)
    return Dataset(source, instances, skipped)


def read_source(path: str | Path) -> dict[str, Any]:
    """Parses an instances file and checks its structure, not its records.

    Args:
      path: a UTF-8 JSON file, with or without byte order mark.

    Returns:
      The parsed JSON.

    Raises:
      FileNotFoundError: there is no such file.
      AnnotationError: it is not JSON (E101), not an instances file (E102) or names an
        image twice (E106).
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"Annotation file {path} does not exist.") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data[:4]:
        raise fault("E101", f"{path} looks like UTF-16 or UTF-32; save it as UTF-8.")
    mark = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
    text = ""
    try:
        text = data[mark:].decode()
        source = json.loads(text)
    except UnicodeDecodeError as error:
        raise fault(
            "E101", f"{path} is not UTF-8 text: byte {mark + error.start} is wrong."
        ) from error
    except json.JSONDecodeError as error:
        byte = mark + len(text[: error.pos].encode())
        raise fault(
            "E101",
            f"{path} is not JSON: {error.msg} at byte {byte} of {len(data)} "
            f"(line {error.lineno}, column {error.colno}). Is the file complete?",
        ) from error
    except (RecursionError, ValueError) as error:  # nesting; integers of any length
        raise fault("E101", f"{path} cannot be parsed as JSON: {error}.") from error
    check_source(source, str(path))
    return source


def check_source(source: Any, name: str) -> None:
    """Checks that a parsed JSON has the structure of a COCO instances file.

    Args:
      source: the parsed JSON.
      name: what to call it in messages, usually its file.

    Raises:
      AnnotationError: it has not (E102), or an image id occurs twice (E106).
    """
    if isinstance(source, list):
        raise fault(
            "E102",
            f"{name} holds a list at its top level: this is a results file; "
            "pass an instances JSON.",
        )
    if not isinstance(source, dict):
        raise fault("E102", f"{name} holds {source!r:.40}; expected an instances JSON.")
    for key in ("images", "annotations", "categories"):
        if not isinstance(source.get(key), list):
            kind = type(source.get(key)).__name__ if source.get(key) else "empty"
            state = "missing" if key not in source else f"{kind}, not a list"
            if key in source and source[key] is None:
                state = "null"
            raise fault("E102", f"{name}: `{key}` is {state}; expected a list.")
    for key in ("images", "categories"):
        for position, record in enumerate(source[key]):
            if not isinstance(record, dict) or not is_id(record.get("id")):
                raise fault(
                    "E102",
                    f"{name}: entry {position} of `{key}` has no usable id; "
                    "expected a number or a string.",
                )
    counts = Counter(image["id"] for image in source["images"])
    twice = [image_id for image_id, count in counts.items() if count > 1]
    if twice:
        listed = ", ".join(repr(image_id) for image_id in twice[:_MAX_LISTED])
        raise fault(
            "E106",
            f"{name}: {len(twice)} image ids occur more than once: {listed}. "
            "Image ids must be unique.",
        )


def _enforce(
    skipped: list[Problem],
    total: int,
    name: str,
    on_bad: str,
    max_fraction: float | int,
) -> None:
    if not skipped or (on_bad == "skip" and len(skipped) <= max_fraction * total):
        return
    lines = [f"{name}: {len(skipped)} of {total} records cannot be used"]
    if on_bad == "skip":
        lines[0] += f", more than max_skip_fraction {max_fraction:g} allows"
    lines[0] += ":"
    lines += [f"  {code}: {message}" for _, code, message in skipped[:_MAX_LISTED]]
    if len(skipped) > _MAX_LISTED:
        lines.append(f"  and {len(skipped) - _MAX_LISTED} more")
    raise AnnotationError("\n".join(lines), skipped)


def _annotation_id(record: Any, position: int) -> int | str:
    if not isinstance(record, dict):
        raise fault("E102", f"Entry {position} of `annotations` is not an object.")
    annotation_id = record.get("id")
    if not is_id(annotation_id):
        raise fault(
            "E105",
            f"Entry {position} of `annotations` has the id {annotation_id!r:.40}; "
            "expected a number or a string.",
        )
    return annotation_id


def _find_image(record: dict[str, Any], folder: str) -> StoredImage | AnnotationError:
    """Finds and sizes an image once for all its annotations; faults are returned."""
    try:
        path = _image_path(record, folder)
        height, width, flags = record.get("height"), record.get("width"), ()
        if height is None or width is None:
            height, width = check_image(path, full=False)
            flags = ("size_from_file",)
    except AnnotationError as error:
        return error
    except (ImageError, OSError) as error:
        return fault("E113", f"image {record['id']!r} gives no size: {error}")
    for name, value in (("height", height), ("width", width)):
        if type(value) is not int or not 0 < value < MAX_NUMBER:
            return fault(
                "E104",
                f"image {record['id']!r} has the {name} {value!r:.40}; "
                "expected a positive whole number of pixels.",
            )
    return StoredImage(path, (height, width), flags)


def _image_path(record: dict[str, Any], folder: str) -> str:
    name, url = record.get("file_name"), record.get("coco_url")
    names = [name]
    if name is None and isinstance(url, str):  # LVIS; nothing is ever downloaded
        tail = url.split("/")[-2:]
        names = [tail[-1], "/".join(tail)]  # beside each other, or .../train2017/x.jpg
    for candidate in names:
        if not isinstance(candidate, str) or not _is_inside(candidate):
            raise fault(
                "E112",
                f"image {record['id']!r} has the unsafe file name {candidate!a:.200}; "
                "expected a path below the image folder.",
            )
        path = os.path.join(folder, candidate)
        if os.path.isfile(path):
            return path
    raise fault(
        "E111",
        f"image {record['id']!r}: its file {names[0]!a:.200} is missing in {folder}.",
    )


def _is_inside(name: str) -> bool:
    """Whether a file name can only lead to a place below its folder."""
    if not name or "\0" in name or name[0] in "/\\" or _URL_OR_DRIVE.match(name):
        return False
    return ".." not in re.split(r"[/\\]", name)
