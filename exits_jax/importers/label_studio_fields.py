"""Regions and file names as Label Studio writes them."""

import base64
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from exits_jax.data.image_names import has_ending, last_part
from exits_jax.data.records import fault, is_id
from exits_jax.importers.json_files import (
    box_with_area,
    is_number,
    read_size,
    short,
)

_NO_SHAPES = ("choices", "relation", "rating", "textarea", "taxonomy", "number")
_BARE = ("rectangle", "keypoint")  # shapes whose labels are entries of their own
_LONGEST_NAME = 60  # of a region or task, in messages


class Region(NamedTuple):
    """A keypoint or a rectangle of an annotation; coordinates in percent."""

    id: str
    is_rectangle: bool
    label: str | None
    belongs_to: tuple[str, str]  # what keypoints are grouped by: kind and key
    note: str | None
    size: tuple[int, int] | None  # (width, height) of the image, px
    values: tuple[float, ...]  # x, y of a keypoint; x0, y0, x1, y1 of a rectangle
    rotation: float  # of a rectangle, degrees


def read_region(entry: Any, number: int) -> Region:
    """Reads an entry of `result`.

    Args:
        entry: The parsed JSON.
        number: Its place, from 1, which names it where it has no id.

    Raises:
        AnnotationError: With the one fault that makes it useless.
    """
    if not isinstance(entry, dict):
        raise fault("E102", f"The region is {short(entry)}; expected an object.")
    kind, value = entry.get("type"), entry.get("value")
    if kind in _NO_SHAPES:
        raise fault("E221", f"A {kind} is no shape: it marks no object.")
    if kind not in ("keypointlabels", "rectanglelabels"):
        raise fault(
            "E217",
            f"A region of type {short(kind)} holds no extreme clicks; expected "
            "keypointlabels or rectanglelabels.",
        )
    if not isinstance(value, dict):
        raise fault("E104", f"Its value is {short(value)}; expected an object.")
    if _degrees(entry, "image_rotation"):
        raise fault(
            "E215",
            f"The image was turned in the tool, by {entry['image_rotation']} degrees; "
            "expected coordinates of the stored image.",
        )
    size = read_size(entry.get("original_width"), entry.get("original_height"))
    is_rectangle = kind == "rectanglelabels"
    numbers = _numbers(value, ("x", "y", "width", "height")[: 4 if is_rectangle else 2])
    if is_rectangle:
        numbers = _corners(*numbers)
    label, note = _label(value.get(kind)), _note(entry)
    belongs_to = ("label", label or "")
    parent = entry.get("parentID")
    if parent not in (None, ""):
        if not is_id(parent):
            raise fault("E104", f"Its parentID is {short(parent)}; expected an id.")
        belongs_to = ("parent", name_of(parent, number))
    elif note is not None:
        belongs_to = ("note", note)
    return Region(
        name_of(entry.get("id"), number),
        is_rectangle,
        label,
        belongs_to,
        note,
        size,
        numbers,
        _degrees(value, "rotation") if is_rectangle else 0.0,
    )


def merged(result: list[Any]) -> list[Any]:
    """The entries of a result, in which those of one region are one.

    Interfaces with `<Rectangle>` or `<KeyPoint>` and `<Labels>` as separate tags give a
    region twice, as its shape and as its labels, under one id.
    """
    labels: dict[Any, Any] = {}
    shapes: set[Any] = set()
    for entry in result:
        if isinstance(entry, dict) and is_id(entry.get("id")):
            if entry.get("type") == "labels":
                value = entry.get("value")
                if isinstance(value, dict):
                    labels[entry["id"]] = value.get("labels")
            elif entry.get("type") in _BARE:
                shapes.add(entry["id"])
    found = []
    for entry in result:
        identity = entry.get("id") if isinstance(entry, dict) else None
        if is_id(identity) and identity in shapes:
            if entry["type"] == "labels":
                continue
            if entry["type"] in _BARE and isinstance(entry.get("value"), dict):
                kind = f"{entry['type']}labels"
                value = {**entry["value"], kind: labels.get(identity)}
                entry = {**entry, "type": kind, "value": value}
        found.append(entry)
    return found


def name_of(identity: Any, number: int) -> str:
    """An id for people, on one line; the place of the thing where it has none."""
    if not is_id(identity):
        return f"#{number}"
    text = str(identity)
    return text if text.isprintable() and len(text) <= _LONGEST_NAME else short(text)


def image_path(data: Any, result: list[Any]) -> str:
    """The path of a task's image, without the server that it may be on.

    The image is the field `image` of `data`, else the one that the regions name as
    their source, else the only one that looks like the name of an image.

    Raises:
        AnnotationError: No field, or none of several, can be told to be it (E102), or
            what it gives has no file name (E112).
    """
    fields = {
        key: value
        for key, value in (data.items() if isinstance(data, dict) else ())
        if isinstance(value, str)
    }
    sources = [entry.get("source") for entry in result if isinstance(entry, dict)]
    named = {source[1:] for source in sources if isinstance(source, str)}
    paths = {key: _path(value) for key, value in fields.items()}
    looking = [key for key, path in paths.items() if has_ending(path)]
    for keys in (["image"], sorted(named), looking):
        known = [key for key in keys if key in fields]
        if len(known) == 1:
            if not last_part(paths[known[0]]):
                raise fault(
                    "E112",
                    f"Its image {short(fields[known[0]])} has no file name; expected a "
                    "path or URL that ends in one.",
                )
            return paths[known[0]]
    raise fault(
        "E102",
        f"Its data has the fields {short(sorted(fields))}, of which none can be told "
        "to be the image; expected a field `image`.",
    )


def _path(text: str) -> str:
    """The path in a path or URL; "" where there is none. Nothing is ever opened."""
    path = text
    if text.startswith("/") or "://" in text:
        try:
            parts = urlsplit(text)
            query = parse_qs(parts.query, max_num_fields=20)
        except ValueError:
            return ""
        path = unquote(parts.path)
        if "d" in query:  # /data/local-files/?d=folder/name.jpg
            path = query["d"][0]
        elif "fileuri" in query:  # cloud storage: the URI in base 64
            path = _decoded(query["fileuri"][0])
    elif text.startswith("data:"):
        return ""
    return path


def _decoded(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        return ""


def _numbers(value: dict[str, Any], keys: tuple[str, ...]) -> tuple[float, ...]:
    for key in keys:
        if not is_number(value.get(key)):
            raise fault(
                "E104",
                f"Its {key} is {short(value.get(key))}; expected a finite number.",
            )
    return tuple(float(value[key]) for key in keys)


def _degrees(fields: dict[str, Any], key: str) -> float:
    """A rotation, 0 where there is none or a full turn."""
    value = fields.get(key)
    if value is None:
        return 0.0
    if not is_number(value):
        raise fault("E104", f"Its {key} is {short(value)}; expected degrees.")
    return value % 360.0


def _corners(x: float, y: float, width: float, height: float) -> tuple[float, ...]:
    """xyxy; a rectangle drawn to the left or upwards may have negative sides."""
    (x0, x1), (y0, y1) = sorted((x, x + width)), sorted((y, y + height))
    return box_with_area(x0, y0, x1, y1)


def _label(labels: Any) -> str | None:
    if labels in (None, []):
        return None
    is_one = isinstance(labels, list) and len(labels) == 1
    if not is_one or not isinstance(labels[0], str) or not labels[0]:
        raise fault("E108", f"Its labels are {short(labels)}; expected one class.")
    return labels[0]


def _note(entry: dict[str, Any]) -> str | None:
    """What an annotator wrote to mark regions as one group."""
    meta = entry.get("meta")
    notes = [entry.get("group")]
    if isinstance(meta, dict):
        notes += [meta.get("group"), meta.get("text")]
    for note in notes:
        parts = note if isinstance(note, list) else [note]
        texts = [str(part) for part in parts if is_id(part) and part != ""]
        if texts:
            return " ".join(texts)
    return None
