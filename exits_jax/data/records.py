"""One annotated object: what a record must hold, and every check of it.

Coordinates are (x, y) in pixels of the stored image, origin at the top left. Codes
starting with E name faults, codes starting with W name what was put right.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from exits_jax.data.geometry import (
    POINT_SLACK_PX,
    SIDES,
    Box,
    Point,
    box_distance,
    box_of,
    clip_box,
    look_normalised,
    order_excess,
    sorted_points,
)

FLAG_CODES = {
    "box_only": "W210",
    "clamped_points": "W204",
    "clipped_box": "W202",
    "points_disagree_with_box": "W208",
    "size_from_file": "W109",
    "sorted_points": "W206",
    "text_as_id": "W107",
    "under_other_name": "W217",
}
MAX_NUMBER = 1e9  # beyond any image; keeps what follows free of overflow
_BOX_ROUNDING_PX = 0.1  # COCO rounds boxes to 0.01 px; such an overlap is no remark
_FAR_OFF = 3.0  # times the tolerance: points that may be in another frame than the box


class Problem(NamedTuple):
    """One fault of one record; `annotation_id` is None where there is none to name."""

    annotation_id: int | str | None
    code: str
    message: str
    position: int | None = None  # place among the annotations of the file


class AnnotationError(ValueError):
    """Annotations that cannot be used; `problems` holds the faults one by one."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        """Keeps the message for people and the problems for programs."""
        super().__init__(message)
        self.problems = list(problems)


class TooManySkipped(AnnotationError):
    """More records had to be left out than the caller allows; the rest is usable."""


class Instance(NamedTuple):
    """One checked object of one image."""

    annotation_id: int | str
    image_id: int | str
    category_id: int | str
    image_path: str
    image_size: tuple[int, int]  # (height, width)
    extreme_points: np.ndarray | None  # float32 [4, 2], (x, y), as in SIDES
    box: Box  # xyxy px, right and bottom exclusive
    is_crowd: bool
    flags: tuple[str, ...]  # keys of FLAG_CODES


class StoredImage(NamedTuple):
    """The image of a record: where it lies and how large it is."""

    path: str
    size: tuple[int, int]  # (height, width)
    flags: tuple[str, ...]


def read_instance(
    record: dict[str, Any], image: StoredImage, categories: set[int | str]
) -> Instance:
    """Checks one record whose id is known to be sound and unique.

    Args:
        record: An entry of `annotations`.
        image: Its image.
        categories: The ids that the file defines.

    Raises:
        AnnotationError: With the one problem that makes the record useless.
    """
    annotation_id, category_id = record["id"], record.get("category_id")
    name = f"Annotation {annotation_id!r:.80}"
    if not is_id(category_id) or category_id not in categories:
        raise fault(
            "E108",
            f"{name}: category_id {category_id!r:.80} is not among the categories"
            f"{kind_of_ids(category_id, categories)}.",
        )
    is_crowd = record.get("iscrowd") or 0
    if is_crowd not in (0, 1):
        raise fault("E104", f"{name}: iscrowd is {is_crowd!r:.40}; expected 0 or 1.")
    points = _parse_points(record.get("extreme_points"), name)
    bbox = _parse_bbox(record.get("bbox"), name)
    if points is not None:
        extreme_points, box, flags = check_points(points, bbox, image.size, name)
    elif bbox is not None:
        extreme_points = None
        box, flags = check_box(bbox, image.size, name)
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
        flags=tuple(sorted(image.flags + flags)),
    )


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(type(v) in (int, float) and abs(v) < MAX_NUMBER for v in values)


def _parse_points(value: Any, name: str) -> list[Point] | None:
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


def _parse_bbox(value: Any, name: str) -> Box | None:
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


def check_box(
    bbox: Box, size: tuple[int, int], name: str
) -> tuple[Box, tuple[str, ...]]:
    """Puts a box into its image; returns it and flags.

    Args:
        bbox: xyxy px.
        size: (height, width) of the image.
        name: Whose it is, for messages.

    Raises:
        AnnotationError: It lies outside (E203) or is not in pixels (E209).
    """
    height, width = size
    clipped = clip_box(bbox, size)
    if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
        raise fault(
            "E203",
            f"{name}: bbox {bbox} (x0, y0, x1, y1) lies fully outside its "
            f"{width}x{height} image.",
        )
    if look_normalised(bbox, size) and not all(v.is_integer() for v in bbox):
        raise fault(
            "E209",
            f"{name}: bbox {bbox} (x0, y0, x1, y1) looks normalised to 0..1 in a "
            f"{width}x{height} image; expected pixels.",
        )
    outside = max(abs(a - b) for a, b in zip(bbox, clipped))
    flags = ("clipped_box",) if outside > _BOX_ROUNDING_PX else ()
    return clipped, ("box_only", *flags)


def check_points(
    points: list[Point],
    bbox: Box | None,
    size: tuple[int, int],
    name: str,
) -> tuple[np.ndarray, Box, tuple[str, ...]]:
    """Puts points into the image and in order; returns them, their box and flags.

    Args:
        points: Four (x, y) px.
        bbox: The annotated box, xyxy px, if there is one.
        size: (height, width) of the image.
        name: Whose they are, for messages.

    Raises:
        AnnotationError: They lie outside (E205), have no extent (E201) or are not in
            pixels or not (x, y) (E209).
    """
    if bbox is not None:
        _refuse_other_frames(points, clip_box(bbox, size), size, name)
    height, width = size
    flags: list[str] = []
    clamped = []
    for side, (x, y) in zip(SIDES, points):
        inside = (min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0))
        if max(abs(x - inside[0]), abs(y - inside[1])) > POINT_SLACK_PX:
            raise fault(
                "E205",
                f"{name}: the {side} extreme point ({x:g}, {y:g}) lies outside its "
                f"{width}x{height} image. Points are (x, y) in pixels, origin at the "
                f"top left.{_swapped_hint(points, size)}",
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
    box = box_of(clamped)
    agrees = bbox is not None and box_distance(box, clip_box(bbox, size)) <= 1
    whole = all(value.is_integer() for value in (*xs, *ys))
    # A two-pixel object in the corner has such points too: its bbox vouches for it.
    if look_normalised((*xs, *ys), size) and not (agrees and whole):
        raise fault(
            "E209",
            f"{name}: its extreme points {points} look normalised to 0..1 in a "
            f"{width}x{height} image; expected pixels.",
        )
    if max(order_excess(clamped)) > POINT_SLACK_PX:
        clamped = sorted_points(clamped)
        flags.append("sorted_points")
    if bbox is not None and not agrees:
        flags.append("points_disagree_with_box")
    return np.array(clamped, np.float32), box, tuple(flags)


def _swapped_hint(points: list[Point], size: tuple[int, int]) -> str:
    """Words for points that lie in the image only when read as (y, x)."""
    height, width = size
    fits = all(0 <= y <= width - 1 and 0 <= x <= height - 1 for x, y in points)
    return " Read as (y, x) they would all lie inside." if fits else ""


def _refuse_other_frames(
    points: list[Point],
    bbox: Box,
    size: tuple[int, int],
    name: str,
) -> None:
    """Points that fit their box only when read as something else are not guessed."""
    if bbox[0] >= bbox[2] or bbox[1] >= bbox[3]:
        return  # lies outside the image and vouches for nothing
    if box_distance(box_of(points), bbox) <= _FAR_OFF:
        return
    height, width = size
    readings = {
        "[y, x]": [(y, x) for x, y in points],
        "percent of the image": [
            (x * width / 100, y * height / 100) for x, y in points
        ],
        "shares of the image, 0..1": [(x * width, y * height) for x, y in points],
    }
    for reading, candidate in readings.items():
        if box_distance(box_of(candidate), bbox) <= 1:
            raise fault(
                "E209",
                f"{name}: its extreme points fit its bbox only if read as {reading}; "
                f"expected [x, y] in pixels, got {points}.",
            )


def fault(code: str, message: str) -> AnnotationError:
    """An error about one thing, to be raised; its problem has no annotation id yet."""
    return AnnotationError(message, [Problem(None, code, message)])


def is_id(value: Any) -> TypeGuard[int | str]:
    """Whether a value can be an id: a whole number or a string, kept as it is."""
    return type(value) in (int, str)


def is_length(value: Any) -> bool:
    """Whether a value is a length in px: a positive whole number, 640.0 too."""
    is_whole = type(value) is int or (type(value) is float and value.is_integer())
    return is_whole and 0 < value < MAX_NUMBER


def whole_number(value: Any) -> Any:
    """640 for 640.0; anything else as it is."""
    is_whole = type(value) is float and value.is_integer() and abs(value) < 2**53
    return int(value) if is_whole else value


def kind_of_ids(value: Any, ids: Collection[Any]) -> str:
    """Words for an id of another kind than all that it is looked for among."""
    known = next(iter(ids), None)
    if known is None or type(value) is type(known):
        return ""
    kinds = {int: "numbers", str: "text"}
    theirs = kinds.get(type(value), "neither number nor text")
    return f": it is {theirs}, but they are {kinds[type(known)]}, {known!r:.40} for one"
