"""Clicks and boxes as people give them, to checked annotations of an image."""

from typing import Any

import numpy as np

from exits_jax.data.records import AnnotationError, Instance, check_box, check_points
from exits_jax.importers.clicks import in_order
from exits_jax.predict.errors import ClickError

_EXPECTED = (
    "expected four clicks (x, y), [4, 2], or a box (left, top, right, bottom), [4], in "
    "pixels of the image"
)


def annotation(given: Any, size: tuple[int, int], *, number: int = 0) -> Instance:
    """Four clicks, in any order, or a box alone, as an object of an image.

    Args:
        given: [4, 2], (x, y) px, (0, 0) the centre of the first pixel; or [4], the
            edges of a box (left, top, right, bottom), right and bottom exclusive.
        size: (height, width) of the image.
        number: Which of several it is.

    Raises:
        ClickError: Another number of values (E207), no finite numbers (E104), clicks
            without extent or a box without area (E201), outside the image (E203,
            E205), or not in pixels (E209).
    """
    values = _numbers(given, number)
    name = f"Object {number}"
    try:
        if values.shape == (4, 2):
            points = [(float(x), float(y)) for x, y in values]
            points, box, flags = check_points(in_order(points), None, size, name)
        else:
            x0, y0, x1, y1 = values.tolist()
            if x1 <= x0 or y1 <= y0:
                raise ClickError(
                    f"{name}: the box {(x0, y0, x1, y1)} has no area; {_EXPECTED}.",
                    "E201",
                )
            box, flags = check_box((x0, y0, x1, y1), size, name)
            points = None
    except AnnotationError as error:
        problem = error.problems[0]
        raise ClickError(problem.message, problem.code) from None
    return Instance(
        annotation_id=number,
        image_id=0,
        category_id=0,
        image_path="",
        image_size=size,
        extreme_points=points,
        box=box,
        is_crowd=False,
        flags=flags,
    )


def _numbers(given: Any, number: int) -> np.ndarray:
    """The values as float64 [4, 2] or [4]."""
    try:
        values = np.asarray(given)
        is_numeric = values.dtype.kind in "iuf"
    except ValueError:  # rows of unequal length
        values, is_numeric = np.empty(0), True
    if values.shape not in ((4, 2), (4,)):
        shape = list(values.shape) if values.size else "of unequal rows, or empty"
        raise ClickError(
            f"Object {number}: the clicks are {shape}: {given!r:.80}; {_EXPECTED}.",
            "E207",
        )
    if not is_numeric or not np.isfinite(values).all():
        raise ClickError(
            f"Object {number}: the clicks {given!r:.120} are not finite numbers; "
            f"{_EXPECTED}.",
            "E104",
        )
    return values.astype(np.float64)
