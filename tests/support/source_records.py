"""How many records a source has at the least, counted without our readers.

Shapes that may make one object together count as one. Where a reader gives more, those
are faults of images and the like, or shapes that made none.
"""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from exits_jax.importers.items import ImageItem, Item

_REGIONS = re.compile(r", regions? (.*)", re.DOTALL)
_MORE = re.compile(r"(.*) and (\d+) more")


def lost_records(kind: str, source: Path, items: list[Item]) -> str:
    """What is missing among the items of a source that was read; "" if nothing is."""
    if kind == "label_studio":
        found, wanted = _regions_met(items), _regions(source)
    else:
        found = sum(not isinstance(item, ImageItem) for item in items)
        wanted = COUNTERS[kind](source)
    return f"{found} of {wanted}" if found < wanted else ""


def _json(source: Path) -> Any:
    return json.loads(source.read_text(encoding="utf-8-sig"), parse_int=str)


def _coco(source: Path) -> int:
    return len(_json(source)["annotations"])


def _rows(source: Path, delimiters: str = ",") -> int:
    text = source.read_text(encoding="utf-8-sig")
    lines = list(io.StringIO(text, newline=""))
    first = next((line for line in lines if line.strip()), "")
    rows = csv.reader(lines, delimiter=max(delimiters, key=first.count))
    return sum(1 for row in rows if row) - 1


def _via(source: Path) -> int:
    content = _json(source)
    keys = [key for key in ("_via_img_metadata", "metadata") if key in content]
    entries = content[keys[0]] if keys else content
    return sum(
        len(entry["regions"])
        if isinstance(entry["regions"], dict | list) and entry["filename"] == "a.jpg"
        else 0
        for entry in entries.values()
    )


def _yolo(source: Path) -> int:
    data = (source.parent / "labels" / "a.txt").read_bytes()
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        return 1
    return sum(1 for line in lines if line.strip())


def _voc_xml(source: Path) -> int:
    return len(ElementTree.parse(source).getroot().findall("object"))


def _cvat(source: Path) -> int:
    images = ElementTree.parse(source).getroot().findall("image")
    return sum(
        _together([shape.get("group_id", "0") for shape in image], {"", "0"})
        for image in images
    )


def _labelme(source: Path) -> int:
    shapes = _json(source)["shapes"]
    fields = [shape if isinstance(shape, dict) else {} for shape in shapes]
    return _together([str(each.get("group_id")) for each in fields], {"None"})


def _together(groups: list[str], none: set[str]) -> int:
    """Shapes without a group, and groups."""
    return sum(group in none for group in groups) + len({*groups} - none)


def _regions(source: Path) -> int:
    """Regions of tasks with one annotation, where those of one id are one."""
    total = 0
    for task in _json(source):
        annotations = task.get("annotations") if isinstance(task, dict) else None
        if isinstance(annotations, list) and len(annotations) == 1:
            fields = annotations[0] if isinstance(annotations[0], dict) else {}
            result = fields.get("result")
            skipped = fields.get("was_cancelled") or fields.get("cancelled")
            if isinstance(result, list) and not skipped:
                total += _distinct(result)
    return total


def _distinct(result: list[Any]) -> int:
    ids = [each.get("id") if isinstance(each, dict) else None for each in result]
    named = {str(one) for one in ids if isinstance(one, str)}
    return len(named) + sum(not isinstance(one, str) for one in ids)


def _regions_met(items: list[Item]) -> int:
    """Regions that records name."""
    total = 0
    for item in items:
        if isinstance(item, ImageItem):
            continue
        found = _REGIONS.search(item.record)
        if found is None:
            continue
        more = _MORE.fullmatch(found[1])
        listed = more[1] if more else found[1]
        total += len(listed.split(", "))
        total += int(more[2]) if more else 0
    return total


COUNTERS: dict[str, Callable[[Path], int]] = {
    "coco": _coco,
    "coco_boxes": _coco,
    "csv": lambda source: _rows(source, ",;\t"),
    "cvat": _cvat,
    "cvat_keypoints": _coco,
    "extremenet": _coco,
    "label_studio": _regions,
    "labelme": _labelme,
    "open_images": _rows,
    "via": _via,
    "voc_xml": _voc_xml,
    "yolo": _yolo,
}
