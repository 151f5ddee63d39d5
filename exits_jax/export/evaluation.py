"""Compares masks with the true ones and sums up over groups of objects.

The groups are those of the paper's analysis: objects by size (COCO's limits) and
objects whose visible parts are separated (Section 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

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
    is_occluded: bool | None = None  # None: not known of any object


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
        Per group of `GROUPS`, and "occluded" where that is known: `object_miou` over
        its objects, `class_miou` over the means of the classes that occur in it (both
        None for an empty group), and `count`.
    """
    groups = GROUPS
    if any(item.is_occluded is not None for item in objects):
        groups += ("occluded",)
    return {
        group: _averages([item for item in objects if _belongs(item, group)])
        for group in groups
    }


def format_table(summaries: Mapping[str, Summary]) -> str:
    """Lays the means over objects out as plain text; "-" stands for an empty group.

    Args:
        summaries: Name of a method to its summary, in the order of the rows.
    """
    groups = list(next(iter(summaries.values()), GROUPS))
    rows = [["IoU in percent, mean over objects", *groups]]
    for name, summary in summaries.items():
        values = [_percent(summary[group]["object_miou"]) for group in groups]
        rows.append([name, *values])
    counts = {
        name: [str(summary[group]["count"]) for group in groups]
        for name, summary in summaries.items()
    }
    if len({tuple(values) for values in counts.values()}) == 1:
        rows.append(["number of objects", *next(iter(counts.values()))])
    else:
        rows.append(["number of objects"])
        rows.extend([f"  {name}", *values] for name, values in counts.items())
    first = max(len(row[0]) for row in rows)
    width = max(len(cell) for row in rows for cell in row[1:])
    lines = [
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell in row[1:])])
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(line.rstrip() for line in lines)


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
    if group == "occluded":
        return bool(item.is_occluded)
    return group in ("all", item.size)


def _percent(value: float | int | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
