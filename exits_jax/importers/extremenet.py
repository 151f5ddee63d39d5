"""ExtremeNet's JSON: COCO instances with `extreme_points`, whole pixels."""

from pathlib import Path
from typing import Any

from exits_jax.data.records import fault
from exits_jax.importers.coco_json import Clicks, read_objects
from exits_jax.importers.items import Items


def read(source: str | Path) -> Items:
    """Yields the objects of an ExtremeNet JSON; masks are left out.

    A record whose list of points is empty or missing keeps its box alone. The points
    are put in order again, whatever order the file declares.

    Args:
        source: The JSON file.
    """
    return read_objects(source, _clicks)


def _clicks(record: dict[str, Any]) -> Clicks | None:
    points = record.get("extreme_points")
    if points is None or points == []:
        return None
    is_list = isinstance(points, list)
    if not is_list or any(not isinstance(p, list) or len(p) != 2 for p in points):
        raise fault(
            "E207", f"Its extreme_points are {points!r:.80}; expected four [x, y]."
        )
    return tuple(tuple(point) for point in points)
