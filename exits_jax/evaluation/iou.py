"""Compares masks with the true ones and sums up over groups of objects.

The groups are those of the paper's analysis: objects by size (COCO's limits) and
objects whose visible parts are separated (Section 4).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from exits_jax.labeling import mask_quality
from exits_jax.object_sizes import size_class

GROUPS = ("all", "small", "medium", "large", "separated")

CLICKS_HIT = "clicks hit"  # a column of the table

Summary = dict[str, dict[str, float | int | None]]


class EvaluatedObject(NamedTuple):
    """One object of the evaluated set and how well its mask fits."""

    annotation_id: int | str
    category_id: int | str
    iou: float
    size: str  # "small", "medium" or "large"
    is_separated: bool
    is_occluded: bool | None = None  # None: not known of any object
    clicks_hit: float | None = (
        None  # share of its clicks near the mask; None: no clicks
    )


def described(
    annotation_id: int | str,
    category_id: int | str,
    true_mask: np.ndarray,
    box: mask_quality.Box,
    *,
    size_by: str = "box",
    separated_ids: Container[int | str] | None = None,
    occluded_ids: Container[int | str] | None = None,
) -> EvaluatedObject:
    """An object with the groups it belongs to; no mask is compared yet, its IoU is 0.

    Args:
        annotation_id: Its id, as the lists have it.
        category_id: Its class.
        true_mask: bool [height, width].
        box: xyxy px, right and bottom exclusive.
        size_by: Size by the area of the "box" or of the "mask".
        separated_ids: Separated objects; None looks at the parts of the mask.
        occluded_ids: Occluded objects; None: not known.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    area = width * height if size_by == "box" else int(true_mask.sum())
    if separated_ids is None:
        separated = is_separated(true_mask)
    else:
        separated = annotation_id in separated_ids
    return EvaluatedObject(
        annotation_id,
        category_id,
        0.0,
        size_class(area),
        separated,
        None if occluded_ids is None else annotation_id in occluded_ids,
    )


def judged(
    item: EvaluatedObject,
    mask: np.ndarray,
    true_mask: np.ndarray,
    extreme_points: np.ndarray | None,
    box: mask_quality.Box,
) -> EvaluatedObject:
    """The object with the IoU of a mask and the share of its clicks that it reaches.

    Args:
        item: Of `described`.
        mask: bool [height, width], all False where there is none.
        true_mask: Likewise.
        extreme_points: [4, 2], (x, y) px of the image; None for a box alone.
        box: xyxy px; decides how near is near enough.
    """
    hits = mask_quality.click_hits(
        mask, extreme_points, mask_quality.click_tolerance(box)
    )
    return item._replace(
        iou=mask_iou(mask, true_mask),
        clicks_hit=None if hits is None else float(np.mean(hits)),
    )


def mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks of one shape; 0 when both are empty.

    Raises:
        ValueError: If the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"Masks of one image differ in shape: {a.shape}, {b.shape}.")
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 0.0


def is_separated(mask: np.ndarray) -> bool:
    """Whether an object has two or more 8-connected parts of at least 5 % each."""
    return mask_quality.count_parts(mask, min_fraction=0.05) >= 2


def summarize(objects: Sequence[EvaluatedObject]) -> Summary:
    """Averages the IoU per group.

    Args:
        objects: The evaluated objects.

    Returns:
        Per group of `GROUPS`, and "occluded" where that is known: `object_miou` over
        its objects, `class_miou` over the means of the classes that occur in it (both
        None for an empty group), `count`, and `clicks_hit`, the share of the clicks
        that the masks reach (None where nothing was clicked).
    """
    groups = GROUPS
    if any(item.is_occluded is not None for item in objects):
        groups += ("occluded",)
    return {
        group: _averages([item for item in objects if belongs(item, group)])
        for group in groups
    }


def belongs(item: EvaluatedObject, group: str) -> bool:
    """Whether an object is one of a group of `GROUPS`, or of "occluded"."""
    if group == "separated":
        return item.is_separated
    if group == "occluded":
        return bool(item.is_occluded)
    return group in ("all", item.size)


def format_table(summaries: Mapping[str, Summary]) -> str:
    """Lays the means over objects out as plain text; "-" stands for an empty group.

    Args:
        summaries: Name of a method to its summary, in the order of the rows. The share
            of all clicks that the masks reach is the last column, where it is known.
    """
    groups = list(next(iter(summaries.values()), GROUPS))
    clicks = {name: each["all"].get("clicks_hit") for name, each in summaries.items()}
    has_clicks = any(share is not None for share in clicks.values())
    last = [CLICKS_HIT] if has_clicks else []
    rows = [["IoU in percent, mean over objects", *groups, *last]]
    for name, summary in summaries.items():
        values = [_percent(summary[group]["object_miou"]) for group in groups]
        rows.append([name, *values, *([_percent(clicks[name])] if has_clicks else [])])
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
        return {"object_miou": None, "class_miou": None, "count": 0, "clicks_hit": None}
    clicks = [item.clicks_hit for item in objects if item.clicks_hit is not None]
    classes: dict[int | str, list[float]] = {}
    for item in objects:
        classes.setdefault(item.category_id, []).append(item.iou)
    return {
        "object_miou": float(np.mean([item.iou for item in objects])),
        "class_miou": float(np.mean([np.mean(ious) for ious in classes.values()])),
        "count": len(objects),
        "clicks_hit": float(np.mean(clicks)) if clicks else None,
    }


def _percent(value: float | int | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
