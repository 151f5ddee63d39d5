"""Points that are named by their side of the object, as "leftmost" or "car_bottom"."""

import re
from collections.abc import Sequence
from typing import Any

from exits_jax.data.geometry import SIDES

_SIDE = re.compile(
    r"(?:extreme[ _-]?)?(top|left|bottom|right)(?:[ _-]?most)?"
    r"(?:[ _-]?(?:point|pt|extreme))?",
    re.IGNORECASE,
)
_BEFORE = re.compile(rf"(?P<side>{_SIDE.pattern})[ _.:/-]+(?P<rest>\S.*)", re.I)
_BEHIND = re.compile(rf"(?P<rest>.*?\S)[ _.:/-]+(?P<side>{_SIDE.pattern})", re.I)
_LONGEST = 80  # characters of a name; the patterns cost their square


def split_side(name: Any) -> tuple[str, str] | None:
    """The side that a name tells, and the rest of it; None without one.

    Args:
        name: "left" gives ("left", ""), "car topmost" gives ("top", "car").
    """
    if not isinstance(name, str) or len(name) > _LONGEST:
        return None
    name = name.strip()
    if found := _SIDE.fullmatch(name):
        return found[1].lower(), ""
    found = _BEHIND.fullmatch(name) or _BEFORE.fullmatch(name)
    if found is None:
        return None
    side = _SIDE.fullmatch(found["side"])
    return (side[1].lower(), found["rest"]) if side else None


def places_of_sides(names: Sequence[Any]) -> list[int] | None:
    """Where in a list of names the four sides stand; None unless each stands once."""
    found = [split_side(name) for name in names]
    sides = [one[0] if one is not None and not one[1] else None for one in found]
    if any(sides.count(side) != 1 for side in SIDES):
        return None
    return [sides.index(side) for side in SIDES]


def class_of_points(labels: Sequence[str | None]) -> str | None:
    """The class of four points: their label, or what is left of it beside their side.

    Args:
        labels: One per point.

    Returns:
        "" where the labels are sides and nothing else; None if there is no one class.
    """
    if len(set(labels)) == 1:
        return labels[0]
    found = [split_side(label) for label in labels]
    split = [one for one in found if one is not None]
    rests = {rest for _, rest in split}
    is_each = sorted(side for side, _ in split) == sorted(SIDES)
    return rests.pop() if is_each and len(rests) == 1 else None
