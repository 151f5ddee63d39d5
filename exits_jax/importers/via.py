"""Reader of the VGG Image Annotator (VIA): its project, and its JSON and CSV exports.

A polygon or polyline of four vertices is four clicks, a longer polygon the outline of
an object, whose extreme vertices are taken; a rect is a box.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exits_jax.data.records import AnnotationError, fault
from exits_jax.importers.items import ImageItem, Items, ObjectItem, Rejected
from exits_jax.importers.json_files import (
    box_with_area,
    is_number,
    outline_of,
    read_image,
    read_json,
    reject,
    short,
)
from exits_jax.importers.outlines import extreme_vertices
from exits_jax.importers.tables import read_rows

_METADATA = ("_via_img_metadata", "metadata")
_COLUMNS = ("filename", "region_shape_attributes", "region_attributes")
_NAMES = ("class", "label", "category", "type", "name")  # of the attribute, by rank
_OUTLINES = ("polygon", "polyline")


def read(source: str | Path) -> Items:
    """Yields the objects of each image, and the images without any.

    The class of a region is its attribute `class`, `label`, `category`, `type` or
    `name`, or the only one that it has.

    Args:
        source: The JSON or CSV.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It is not JSON (E101), nor an export of VIA (E102), or too
            large (E115).
    """
    path = Path(source)
    if path.suffix.lower() == ".csv":
        yield from _of_table(path)
        return
    content = read_json(path)
    fields = content if isinstance(content, dict) else {}
    entries = next((fields[key] for key in _METADATA if key in fields), content)
    is_via = isinstance(entries, dict) and all(
        isinstance(entry, dict) and "filename" in entry and "regions" in entry
        for entry in entries.values()
    )
    if not is_via or not entries:
        raise fault(
            "E102",
            f"{path} holds {outline_of(content)}; expected a project or an export "
            "'Annotations (as json)' of VIA 1 or 2.",
        )
    for key, entry in entries.items():
        yield from _image_items(key, entry)


def _image_items(key: str, entry: dict[str, Any]) -> Items:
    regions, where = entry["regions"], f"image {short(key)}"
    if isinstance(regions, dict):  # VIA 1
        regions = list(regions.values())
    try:
        if not isinstance(regions, list):
            raise fault("E102", f"Its regions are {short(regions)}; expected a list.")
        image = read_image(entry["filename"], None, None)._replace(identity=where)
    except AnnotationError as error:
        yield reject(where, error)
        return
    is_used = False
    for number, region in enumerate(regions, start=1):
        record = f"{where}, region {number}"
        try:
            if not isinstance(region, dict):
                raise fault("E102", f"The region is {short(region)}; not an object.")
            shape, about = (
                region.get(name) for name in ("shape_attributes", "region_attributes")
            )
            yield _object(shape, about, image, record)
            is_used = True
        except AnnotationError as error:
            yield reject(record, error)
    if not is_used:
        yield image


def _of_table(path: Path) -> Iterator[ImageItem | ObjectItem | Rejected]:
    rows = read_rows(path)
    _, first = next(rows, (0, []))
    header = [name.strip().lstrip("#").strip() for name in first]
    if not set(_COLUMNS) <= set(header):
        raise fault(
            "E102",
            f"{path}: line 1 has the columns {', '.join(header)!a:.200}; expected "
            f"{', '.join(_COLUMNS)}, the export 'Annotations (as csv)' of VIA.",
        )
    for line, cells in rows:
        record = f"line {line}"
        try:
            if len(cells) != len(header):
                raise fault("E102", f"It has {len(cells)} columns, not {len(header)}.")
            row = dict(zip(header, cells))
            size = row.get("file_size", "")
            image = read_image(row["filename"], None, None)
            image = image._replace(identity=f"{row['filename']} of {size} bytes")
            if row.get("region_count") == "0":
                yield image
                continue
            shape, about = (_cell(row[name], name) for name in _COLUMNS[1:])
            yield _object(shape, about, image, record)
        except AnnotationError as error:
            yield reject(record, error)


def _cell(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise fault("E104", f"{name} is {short(text)}; expected JSON.") from error


def _object(shape: Any, about: Any, image: ImageItem, record: str) -> ObjectItem:
    if not isinstance(shape, dict):
        raise fault("E104", f"Its shape is {short(shape)}; expected an object.")
    kind, category = shape.get("name"), _category(about)
    if kind == "rect":
        keys = ("x", "y", "width", "height")
        if not all(is_number(shape.get(key)) for key in keys):
            values = short([shape.get(key) for key in keys])
            raise fault("E104", f"The rect is {values}; expected four numbers.")
        x, y, width, height = (float(shape[key]) for key in keys)
        box = box_with_area(x, y, x + width, y + height)
        return ObjectItem(image, category, None, box, "px", record)
    if kind not in _OUTLINES:
        raise fault(
            "E217",
            f"A {short(kind)} holds no extreme clicks; expected a rect, a polygon or a "
            "polyline.",
        )
    xs, ys = (_numbers(shape.get(f"all_points_{axis}")) for axis in "xy")
    if xs is None or ys is None or len(xs) != len(ys):
        raise fault("E104", f"Its points are {short(shape)}; expected numbers.")
    vertices = list(zip(xs, ys))
    if len(vertices) == 4:
        return ObjectItem(image, category, tuple(vertices), None, "px", record)
    if kind == "polyline" or len(vertices) < 3:
        raise fault("E207", f"The {kind} has {len(vertices)} points; expected four.")
    clicks = extreme_vertices(vertices)
    extra = {"points_source": "polygon"}
    return ObjectItem(image, category, clicks, None, "px", record, extra)


def _numbers(value: Any) -> list[float] | None:
    if not isinstance(value, list) or not all(map(is_number, value)):
        return None
    return [float(number) for number in value]


def _category(about: Any) -> str:
    """The class among the attributes of a region: text, or one box that is ticked."""
    fields = about if isinstance(about, dict) else {}
    texts = {key: _text(value) for key, value in fields.items()}
    known = {key.strip().lower(): text for key, text in texts.items() if text}
    for name in _NAMES:
        if name in known:
            return known[name]
    if len(known) == 1:
        return next(iter(known.values()))
    raise fault(
        "E108",
        f"Its attributes are {short(about)}, of which none can be told to be the "
        f"class; expected one of {', '.join(_NAMES)}.",
    )


def _text(value: Any) -> str:
    if isinstance(value, dict):  # check boxes: {"cat": true}
        ticked = [str(key) for key, state in value.items() if state is True]
        return ticked[0] if len(ticked) == 1 else ""
    return value.strip() if isinstance(value, str) else ""
