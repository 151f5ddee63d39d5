"""Compares masks with the true ones and sums up over groups of objects.

The groups are those of the paper's analysis: objects by size (COCO's limits) and
objects whose visible parts are separated (Section 4).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from exits_jax.export import quality

GROUPS = ("all", "small", "medium", "large", "separated")

Summary = dict[str, dict[str, float | int | None]]


class EvaluatedObject(NamedTuple):
    """One object of the evaluated set and how well its mask fits."""

    annotation_id: int | str
    category_id: int | str
    iou: float
    size: str  # "small", "medium" or "large"
    is_separated: bool


def mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks of one shape; 0 when both are empty.

    Raises:
        ValueError: If the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"Masks of one image differ in shape: {a.shape}, {b.shape}.")
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 0.0


def size_bucket(area: float | int) -> str:
    """COCO's size of an object: small below 32^2 px, medium below 96^2, else large."""
    if area < 32**2:
        return "small"
    return "medium" if area < 96**2 else "large"


def is_separated(mask: np.ndarray) -> bool:
    """Whether an object has two or more 8-connected parts of at least 5 % each."""
    return quality.count_parts(mask, min_fraction=0.05) >= 2


def summarize(objects: Sequence[EvaluatedObject]) -> Summary:
    """Averages the IoU per group.

    Args:
        objects: The evaluated objects.

    Returns:
        Per group of `GROUPS`: `object_miou` over its objects, `class_miou` over the
        means of the classes that occur in it (both None for an empty group), and
        `count`.
    """
    return {
        group: _averages([item for item in objects if _belongs(item, group)])
        for group in GROUPS
    }


def format_table(summaries: Mapping[str, Summary]) -> str:
    """Lays summaries out as plain text, in percent; "-" stands for an empty group.

    Args:
        summaries: Name of a method to its summary, in the order of the rows.
    """
    rows = [["IoU in percent", *GROUPS]]
    for key, heading in (("object_miou", "object mean"), ("class_miou", "class mean")):
        rows.append([heading])
        for name, summary in summaries.items():
            values = [_percent(summary[group][key]) for group in GROUPS]
            rows.append([f"  {name}", *values])
    counts = {
        name: [str(summary[group]["count"]) for group in GROUPS]
        for name, summary in summaries.items()
    }
    if len({tuple(values) for values in counts.values()}) == 1:
        rows.append(["objects", *next(iter(counts.values()))])
    else:
        rows.append(["objects"])
        rows.extend([f"  {name}", *values] for name, values in counts.items())
    first = max(len(row[0]) for row in rows)
    width = max(len(cell) for row in rows for cell in row[1:])
    lines = [
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell in row[1:])])
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(line.rstrip() for line in lines)


def write_json(path: str | Path, obj: Any) -> None:
    """Writes an object as JSON in one atomic step.

    Args:
        path: The file; its folder is created when missing.
        obj: What to write; NumPy numbers and arrays are turned into plain ones.

    Raises:
        ValueError: If a number is not finite.
    """
    path = Path(path)
    try:
        text = json.dumps(obj, allow_nan=False, default=_plain, ensure_ascii=True)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; numbers in JSON must be finite.") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _averages(objects: list[EvaluatedObject]) -> dict[str, float | int | None]:
    if not objects:
        return {"object_miou": None, "class_miou": None, "count": 0}
    classes: dict[int | str, list[float]] = {}
    for item in objects:
        classes.setdefault(item.category_id, []).append(item.iou)
    return {
        "object_miou": float(np.mean([item.iou for item in objects])),
        "class_miou": float(np.mean([np.mean(ious) for ious in classes.values()])),
        "count": len(objects),
    }


def _belongs(item: EvaluatedObject, group: str) -> bool:
    if group == "separated":
        return item.is_separated
    return group in ("all", item.size)


def _percent(value: float | int | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} {value!r} cannot be written as JSON.")
