"""COCO JSONs of others, record by record; what their masks hold is not looked at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from exits_jax.data.coco_file import CocoFile
from exits_jax.data.image_names import source_name
from exits_jax.data.records import AnnotationError, fault, is_id, kind_of_ids
from exits_jax.importers.items import ImageItem, Items, ObjectItem, Rejected

Clicks = tuple[tuple[Any, ...], ...]
ClicksOf = Callable[[dict[str, Any]], Clicks | None]


def read_objects(source: str | Path, clicks_of: ClicksOf) -> Items:
    """Yields the images of a COCO JSON, then its annotations.

    Args:
        source: A UTF-8 JSON file, with or without byte order mark.
        clicks_of: The clicks of a record; None: it has a box alone. Faults that it
            raises as AnnotationError reject the record.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It is not JSON (E101), not an instances file (E102), names an
            image twice (E106) or is too large (E115).
    """
    file = CocoFile.read(source)
    known: dict[int | str, ImageItem] = {}
    for entry in file.images:
        name = source_name(entry)
        known[entry["id"]] = ImageItem(
            name if isinstance(name, str) else "",
            entry.get("width"),
            entry.get("height"),
            f"image {entry['id']!r:.80}",
            any_end=entry.get("file_name") is None,
        )
        yield known[entry["id"]]
    categories = {entry["id"]: entry.get("name") for entry in file.categories}
    for position in range(len(file.annotations)):
        record = f"entry {position} of annotations"
        try:
            found = file.annotations[position]
            if not isinstance(found, dict):
                raise fault("E102", "It is not an object.")
            if is_id(found.get("id")):
                record = f"annotation {found['id']!r:.40}"
            item = _object(found, record, known, categories, clicks_of)
            is_mended = position in file.annotations.mended
            yield item._replace(flags=("text_as_id",)) if is_mended else item
        except AnnotationError as error:
            problem = error.problems[0]
            yield Rejected(record, problem.code, problem.message)


def _object(
    found: dict[str, Any],
    record: str,
    images: dict[int | str, ImageItem],
    categories: dict[int | str, Any],
    clicks_of: ClicksOf,
) -> ObjectItem:
    image_id, category_id = found.get("image_id"), found.get("category_id")
    if not is_id(image_id) or image_id not in images:
        raise fault(
            "E107",
            f"Its image_id {image_id!r:.40} is not among the images"
            f"{kind_of_ids(image_id, images)}.",
        )
    name = categories.get(category_id) if is_id(category_id) else None
    if not isinstance(name, str):
        raise fault(
            "E108",
            f"Its category_id {category_id!r:.40} is not among the categories, or has "
            f"no name there{kind_of_ids(category_id, categories)}.",
        )
    is_crowd = found.get("iscrowd")
    if is_crowd not in (None, 0, 1):
        raise fault("E104", f"Its iscrowd is {is_crowd!r:.40}; expected 0 or 1.")
    if is_crowd:
        raise fault("E219", "It is a crowd region (iscrowd 1), not one object.")
    clicks, box = clicks_of(found), _box(found.get("bbox"))
    if clicks is None and box is None:
        raise fault(
            "E207", "It has neither extreme_points nor bbox; expected one of them."
        )
    extra = {"source_id": found["id"]} if is_id(found.get("id")) else {}
    return ObjectItem(images[image_id], name, clicks, box, "px", record, extra)


def _box(value: Any) -> tuple[float, float, float, float] | None:
    """[x, y, width, height] as xyxy; the writer checks it with the object."""
    if value is None:
        return None
    is_four = isinstance(value, list) and len(value) == 4
    if not is_four or any(type(v) not in (int, float) for v in value):
        raise fault(
            "E104",
            f"Its bbox is {value!r:.80}; expected four finite numbers "
            "[x, y, width, height] in pixels.",
        )
    x, y, width, height = map(_as_float, value)
    return x, y, x + width, y + height


def _as_float(value: int | float) -> float:
    """A number as float; a whole one beyond its range becomes infinite: refused."""
    try:
        return float(value)
    except OverflowError:
        return float("inf")
