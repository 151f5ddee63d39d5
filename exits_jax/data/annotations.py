"""The reader of COCO instance files: every record is checked here, and only here.

Coordinates are (x, y) in pixels of the stored image, origin at the top left. Faults of
the file itself always raise; faults of single records are collected and raised
together or listed, as the caller chooses. Codes starting with E name faults, codes
starting with W name what was put right.
"""

import codecs
import itertools
import json
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from exits_jax.data.images import ImageError, check_image

ON_BAD = ("error", "skip")
SIDES = ("top", "left", "bottom", "right")  # the order of extreme points
FLAG_CODES = {
    "box_only": "W210",
    "clamped_points": "W204",
    "clipped_box": "W202",
    "points_disagree_with_box": "W208",
    "size_from_file": "W109",
    "sorted_points": "W206",
}

_MAX_LISTED = 20
_MAX_NUMBER = 1e9  # beyond any image; keeps what follows free of overflow
_POINT_SLACK_PX = 1.0  # rounding of annotation tools
_BOX_ROUNDING_PX = 0.1  # COCO rounds boxes to 0.01 px; such an overlap is no remark
_URL_OR_DRIVE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|data:|[A-Za-z]:[\\/]")


class Problem(NamedTuple):
    """One fault of one record; `annotation_id` is None where there is none to name."""

    annotation_id: int | str | None
    code: str
    message: str


class AnnotationError(ValueError):
    """Annotations that cannot be used; `problems` holds the faults one by one."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        """Keeps the message for people and the problems for programs."""
        super().__init__(message)
        self.problems = list(problems)


class Instance(NamedTuple):
    """One checked object of one image."""

    annotation_id: int | str
    image_id: int | str
    category_id: int | str
    image_path: str
    image_size: tuple[int, int]  # (height, width)
    extreme_points: np.ndarray | None  # float32 [4, 2], (x, y), as in SIDES
    box: tuple[float, float, float, float]  # xyxy px, right and bottom exclusive
    is_crowd: bool
    flags: tuple[str, ...]  # keys of FLAG_CODES


class Dataset(NamedTuple):
    """What an instances file holds, and which of its records were left out."""

    source: dict  # the parsed JSON, untouched
    instances: list[Instance]
    skipped: list[Problem]


class _Image(NamedTuple):
    path: str
    size: tuple[int, int]
    flags: tuple[str, ...]


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
    found: dict[int | str, _Image | AnnotationError] = {}
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
            instances.append(_read_instance(record, image, categories))
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


def fault(code: str, message: str) -> AnnotationError:
    """An error about one thing, to be raised; its problem has no annotation id yet."""
    return AnnotationError(message, [Problem(None, code, message)])


def is_id(value: Any) -> TypeGuard[int | str]:
    """Whether a value can be an id: a whole number or a string, kept as it is."""
    return type(value) in (int, str)


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


def _find_image(record: dict[str, Any], folder: str) -> _Image | AnnotationError:
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
        if type(value) is not int or not 0 < value < _MAX_NUMBER:
            return fault(
                "E104",
                f"image {record['id']!r} has the {name} {value!r:.40}; "
                "expected a positive whole number of pixels.",
            )
    return _Image(path, (height, width), flags)


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


def _read_instance(
    record: dict[str, Any], image: _Image, categories: set[int | str]
) -> Instance:
    annotation_id, category_id = record["id"], record.get("category_id")
    name = f"Annotation {annotation_id!r}"
    if not is_id(category_id) or category_id not in categories:
        raise fault(
            "E108", f"{name}: category_id {category_id!r} is not among the categories."
        )
    is_crowd = record.get("iscrowd") or 0
    if is_crowd not in (0, 1):
        raise fault("E104", f"{name}: iscrowd is {is_crowd!r:.40}; expected 0 or 1.")
    points = _parse_points(record.get("extreme_points"), name)
    bbox = _parse_bbox(record.get("bbox"), name)
    if points is not None:
        extreme_points, box, flags = _check_points(points, bbox, image.size, name)
    elif bbox is not None:
        extreme_points = None
        box, flags = _check_box(bbox, image.size, name)
    else:
        raise fault(
            "E207", f"{name} has neither extreme_points nor bbox; expected one of them."
        )
    return Instance(
        annotation_id=annotation_id,
        image_id=record["image_id"],
        category_id=category_id,
        image_path=image.path,
        image_size=image.size,
        extreme_points=extreme_points,
        box=box,
        is_crowd=bool(is_crowd),
        flags=image.flags + flags,
    )


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(type(v) in (int, float) and abs(v) < _MAX_NUMBER for v in values)


def _parse_points(value: Any, name: str) -> list[tuple[float, float]] | None:
    if value is None or value == []:
        return None
    if (
        not isinstance(value, list)
        or len(value) != 4
        or any(not isinstance(point, list) or len(point) != 2 for point in value)
    ):
        raise fault(
            "E207",
            f"{name}: extreme_points is {value!r:.80}; expected four [x, y] in the "
            f"order {', '.join(SIDES)}.",
        )
    for side, point in zip(SIDES, value):
        if not _are_numbers(point):
            raise fault(
                "E104",
                f"{name}: the {side} extreme point is {point!r:.80}; expected two "
                "finite numbers in pixels.",
            )
    return [(float(x), float(y)) for x, y in value]


def _parse_bbox(value: Any, name: str) -> tuple[float, float, float, float] | None:
    """Reads [x, y, width, height] as xyxy, right and bottom exclusive."""
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 4 or not _are_numbers(value):
        raise fault(
            "E104",
            f"{name}: bbox is {value!r:.80}; expected four finite numbers "
            "[x, y, width, height] in pixels.",
        )
    x, y, width, height = map(float, value)
    if width <= 0 or height <= 0:
        raise fault(
            "E201", f"{name}: bbox {value} has no area; width and height must be > 0."
        )
    return x, y, x + width, y + height


def _clip_box(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    height, width = map(float, size)
    x0, y0, x1, y1 = box
    return max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height)


def _check_box(
    bbox: tuple[float, float, float, float], size: tuple[int, int], name: str
) -> tuple[tuple[float, float, float, float], tuple[str, ...]]:
    height, width = size
    clipped = _clip_box(bbox, size)
    if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
        raise fault(
            "E203",
            f"{name}: bbox {bbox} (x0, y0, x1, y1) lies fully outside its "
            f"{width}x{height} image.",
        )
    if _look_normalised(bbox, size) and not all(v.is_integer() for v in bbox):
        raise fault(
            "E209",
            f"{name}: bbox {bbox} (x0, y0, x1, y1) looks normalised to 0..1 in a "
            f"{width}x{height} image; expected pixels.",
        )
    outside = max(abs(a - b) for a, b in zip(bbox, clipped))
    flags = ("clipped_box",) if outside > _BOX_ROUNDING_PX else ()
    return clipped, ("box_only", *flags)


def _look_normalised(values: Sequence[float], size: tuple[int, int]) -> bool:
    return max(size) > 2 and all(0 <= value <= 1 for value in values)


def _check_points(
    points: list[tuple[float, float]],
    bbox: tuple[float, float, float, float] | None,
    size: tuple[int, int],
    name: str,
) -> tuple[np.ndarray, tuple[float, float, float, float], tuple[str, ...]]:
    """Puts points into the image and in order; returns them, their box and flags."""
    height, width = size
    flags: list[str] = []
    clamped = []
    for side, (x, y) in zip(SIDES, points):
        inside = (min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0))
        if max(abs(x - inside[0]), abs(y - inside[1])) > _POINT_SLACK_PX:
            raise fault(
                "E205",
                f"{name}: the {side} extreme point ({x:g}, {y:g}) lies outside its "
                f"{width}x{height} image. Points are (x, y) in pixels, origin at the "
                "top left.",
            )
        clamped.append(inside)
    if clamped != points:
        flags.append("clamped_points")
    xs, ys = zip(*clamped)
    if min(xs) == max(xs) or min(ys) == max(ys):
        raise fault(
            "E201",
            f"{name}: its extreme points {points} have no extent in "
            f"{'x' if min(xs) == max(xs) else 'y'}; expected an object with an area.",
        )
    # The outermost values rather than the four declared sides: within the tolerance
    # on the order they differ by a pixel, and every point must lie in its box.
    box = (
        float(math.floor(min(xs))),
        float(math.floor(min(ys))),
        math.floor(max(xs)) + 1.0,
        math.floor(max(ys)) + 1.0,
    )
    agrees = bbox is not None and _agree(box, _clip_box(bbox, size))
    whole = all(value.is_integer() for value in (*xs, *ys))
    # A two-pixel object in the corner has such points too: its bbox vouches for it.
    if _look_normalised((*xs, *ys), size) and not (agrees and whole):
        raise fault(
            "E209",
            f"{name}: its extreme points {points} look normalised to 0..1 in a "
            f"{width}x{height} image; expected pixels.",
        )
    if max(_order_excess(clamped)) > _POINT_SLACK_PX:
        clamped = _sorted_points(clamped)
        flags.append("sorted_points")
    if bbox is not None and not agrees:
        flags.append("points_disagree_with_box")
    return np.array(clamped, np.float32), box, tuple(flags)


def _agree(
    box: tuple[float, ...], bbox: tuple[float, ...], *, slack: float = 0.05
) -> bool:
    """Whether no side is farther off than max(5 px, 5 % of the box's side)."""
    width, height = bbox[2] - bbox[0], bbox[3] - bbox[1]
    limits = max(5.0, slack * width), max(5.0, slack * height)
    return all(abs(a - b) <= limits[i % 2] for i, (a, b) in enumerate(zip(box, bbox)))


def _order_excess(points: Sequence[tuple[float, float]]) -> tuple[float, ...]:
    """How far each point is from being the extreme of its side, px."""
    top, left, bottom, right = points
    xs, ys = zip(*points)
    return (
        top[1] - min(ys),
        left[0] - min(xs),
        max(ys) - bottom[1],
        max(xs) - right[0],
    )


def _sorted_points(
    points: list[tuple[float, float]],
) -> list[tuple[float, float]]:
    """Finds the side of each point; a corner may have to serve two sides."""
    orders = itertools.permutations(points)
    best = min(orders, key=lambda order: sum(_order_excess(order)))
    if max(_order_excess(best)) <= _POINT_SLACK_PX:
        return list(best)
    by_x, by_y = sorted(points), sorted(points, key=lambda point: point[1])
    return [by_y[0], by_x[0], by_y[-1], by_x[-1]]
