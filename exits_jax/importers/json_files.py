"""What the readers of annotation tools share: strict JSON, and checks of its values.

Values are shown in messages by `short`, and whole files by `outline_of`, which neither
descend deep nor grow long, whatever a file holds.
"""

import reprlib
from pathlib import Path
from typing import Any, TypeGuard

from exits_jax.data.coco_file import parse_json, read_text
from exits_jax.data.image_names import name_parts
from exits_jax.data.records import MAX_NUMBER, AnnotationError, fault, is_length
from exits_jax.importers.items import ImageItem, Rejected

Box = tuple[float, float, float, float]

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 80
_REPR.maxlevel = 2
_LONGEST = 160  # characters of a value in a message
_MAX_FIELDS = 6


def short(value: Any) -> str:
    """A value as its repr, cut where that is deep or long."""
    text = _REPR.repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def outline_of(content: Any) -> str:
    """What a JSON file of another kind holds: names of fields, not their values."""
    if isinstance(content, dict) and content:
        names = [f"{name!r:.40}" for name in list(content)[:_MAX_FIELDS]]
        more = len(content) - len(names)
        listed = ", ".join(names) + (f" and {more} more" if more else "")
        return f"an object with the fields {listed}"
    if isinstance(content, list) and content:
        return f"a list of {len(content)}, the first of them {short(content[0])}"
    return short(content)


def read_json(path: str | Path) -> Any:
    """Parses a JSON file; NaN and infinities are left to the checks of its fields.

    Args:
        path: A UTF-8 file, with or without byte order mark.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It is not JSON (E101) or too large (E115).
    """
    return parse_json(read_text(Path(path)), path)


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value is a finite number of a size that images can have."""
    return type(value) in (int, float) and abs(value) < MAX_NUMBER


def read_point(value: Any, name: str) -> tuple[float, float]:
    """Reads [x, y].

    Raises:
        AnnotationError: It is not two finite numbers (E104).
    """
    if not isinstance(value, list) or len(value) != 2 or not all(map(is_number, value)):
        raise fault(
            "E104", f"{name} is {short(value)}; expected two finite numbers [x, y]."
        )
    return float(value[0]), float(value[1])


def read_size(width: Any, height: Any) -> tuple[int, int] | None:
    """(width, height) of an image in pixels; None where one of them is absent.

    Raises:
        AnnotationError: One of them is not a positive whole number (E104).
    """
    for side, value in (("width", width), ("height", height)):
        if value is not None and not is_length(value):
            raise fault(
                "E104",
                f"The {side} of the image is {short(value)}; expected a positive whole "
                "number of pixels.",
            )
    return None if width is None or height is None else (int(width), int(height))


def read_image(name: Any, width: Any, height: Any) -> ImageItem:
    """An image as its source describes it; its size may be absent.

    Raises:
        AnnotationError: The name is not one of a file below the image folder (E112), a
            size is not a positive whole number (E104).
    """
    if not isinstance(name, str) or "\0" in name or not name_parts(name):
        raise fault(
            "E112",
            f"The image has the unsafe file name {short(name)}; expected a path below "
            "the image folder.",
        )
    size = read_size(width, height)
    return ImageItem(name) if size is None else ImageItem(name, *size)


def box_with_area(x0: float, y0: float, x1: float, y1: float) -> Box:
    """A box as xyxy.

    Raises:
        AnnotationError: It has no area (E201).
    """
    if x0 >= x1 or y0 >= y1:
        raise fault(
            "E201",
            f"The box runs from ({x0:g}, {y0:g}) to ({x1:g}, {y1:g}) and has no area; "
            "expected its left top corner, then its right bottom one.",
        )
    return x0, y0, x1, y1


def reject(record: str, error: AnnotationError) -> Rejected:
    """A record that cannot become an object because of its first fault."""
    problem = error.problems[0]
    return Rejected(record, problem.code, problem.message)
