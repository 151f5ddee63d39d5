"""One annotated object: what a record must hold, and every check of it.

Coordinates are (x, y) in pixels of the stored image, origin at the top left. Codes
starting with E name faults, codes starting with W name what was put right.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np

SIDES = ("top", "left", "bottom", "right")  # the order of extreme points
FLAG_CODES = {
    "box_only": "W210",
    "clamped_points": "W204",
    "clipped_box": "W202",
    "points_disagree_with_box": "W208",
    "size_from_file": "W109",
    "sorted_points": "W206",
}
MAX_NUMBER = 1e9  # beyond any image; keeps what follows free of overflow
_POINT_SLACK_PX = 1.0  # rounding of annotation tools
_BOX_ROUNDING_PX = 0.1  # COCO rounds boxes to 0.01 px; such an overlap is no remark


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
      record: an entry of `annotations`.
      image: its image.
      categories: the ids that the file defines.

    Raises:
      AnnotationError: with the one problem that makes the record useless.
    """
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
    return all(type(v) in (int, float) and abs(v) < MAX_NUMBER for v in values)


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


def fault(code: str, message: str) -> AnnotationError:
    """An error about one thing, to be raised; its problem has no annotation id yet."""
    return AnnotationError(message, [Problem(None, code, message)])


def is_id(value: Any) -> TypeGuard[int | str]:
    """Whether a value can be an id: a whole number or a string, kept as it is."""
    return type(value) in (int, str)
