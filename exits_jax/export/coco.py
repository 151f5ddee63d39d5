"""Writes pseudo masks as a COCO JSON that mmdet and pycocotools read.

The output is the input annotation file with masks in it: the same records, ids,
order and extra fields, so that stage 2 (Section 3.3) needs no other source.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pycocotools import mask as coco_mask

from exits_jax.export import rle as run_lengths
from exits_jax.export.evaluation import write_json


class PseudoInstance(NamedTuple):
    """The pseudo mask of one annotation and its label-free quality."""

    annotation_id: int | str
    rle: dict[str, Any]  # compressed, see export/rle.py
    score: float  # mean probability of the mask, in [0, 1]
    click_hit: tuple[int, ...] | None  # 1 per extreme point that the mask reaches
    box_iou: float  # the mask's own box against the annotated one
    num_parts: int
    flags: tuple[str, ...]


def write_coco(
    folder: str | Path,
    source: dict[str, Any],
    rows: Sequence[PseudoInstance],
    skipped: Sequence[tuple[Any, str, str]],
    info: dict[str, Any],
) -> None:
    """Writes `pseudo_masks.json`, `skipped.json` and `manifest.json`.

    Every annotation of the source is accounted for: it has a row, is skipped with
    a reason, or is a crowd region that keeps its own mask.

    Args:
        folder: Where to write; created when missing.
        source: The parsed COCO JSON; left unchanged.
        rows: The pseudo masks.
        skipped: (annotation id, code, message) per annotation that is left out.
        info: Provenance, written to `info["exits_jax"]` and to the manifest.

    Raises:
        ValueError: If an annotation is not accounted for, an id of a row is unknown
            or occurs twice, a mask is empty or a number is not finite.
    """
    skipped_ids = {entry[0] for entry in skipped}
    by_id = _check_rows(source, rows, skipped_ids)
    annotations = _annotations(source, by_id, skipped_ids)
    result = dict(source)
    old_info = source.get("info")
    result["info"] = {**(old_info if isinstance(old_info, dict) else {})}
    result["info"]["exits_jax"] = info
    result["annotations"] = annotations

    folder = Path(folder)
    reasons = [dict(zip(("id", "code", "message"), entry)) for entry in skipped]
    (folder / "manifest.json").unlink(missing_ok=True)  # it vouches for what follows
    write_json(folder / "pseudo_masks.json", result)
    write_json(folder / "skipped.json", reasons)
    counts = {
        "images": len(source.get("images", [])),
        "annotations": len(source.get("annotations", [])),
        "pseudo_masks": len(rows),
        "crowds_kept": len(annotations) - len(rows),
        "skipped": len(skipped),
    }
    files = {
        name: {
            "sha256": _sha256(folder / name),
            "bytes": (folder / name).stat().st_size,
        }
        for name in ("pseudo_masks.json", "skipped.json")
    }
    manifest = {"files": files, "counts": counts, "exits_jax": info}
    write_json(folder / "manifest.json", manifest)


def _check_rows(
    source: dict[str, Any], rows: Sequence[PseudoInstance], skipped_ids: set[Any]
) -> dict[Any, PseudoInstance]:
    """Rows by annotation id, once every one of them is known to be sound."""
    in_source = Counter(map(_identity, source.get("annotations", [])))
    by_id: dict[Any, PseudoInstance] = {}
    for row in rows:
        name = f"Annotation {row.annotation_id}"
        if row.annotation_id in by_id:
            raise ValueError(f"{name} has two pseudo masks; one is expected.")
        if row.annotation_id not in in_source:
            raise ValueError(f"{name} has a pseudo mask but is not in the source.")
        if row.annotation_id in skipped_ids and in_source[row.annotation_id] == 1:
            raise ValueError(f"{name} has a pseudo mask and is also skipped.")
        if run_lengths.area(row.rle) == 0:
            raise ValueError(
                f"{name}: its pseudo mask is empty. Detectors drop such records "
                "without a word; skip it instead."
            )
        for field, value in (("score", row.score), ("box_iou", row.box_iou)):
            if not math.isfinite(value):
                raise ValueError(f"{name}: {field} is {value}; it must be finite.")
        by_id[row.annotation_id] = row
    return by_id


def _annotations(
    source: dict[str, Any], by_id: dict[Any, PseudoInstance], skipped_ids: set[Any]
) -> list[dict[str, Any]]:
    """The records of the source that stay, in their order, with their masks."""
    sizes = {
        image.get("id"): (image.get("height"), image.get("width"))
        for image in source.get("images", [])
    }
    waiting, missing, result = dict(by_id), [], []
    for record in source.get("annotations", []):
        identity = _identity(record)
        if identity in waiting:
            # Of records that share an id, the reader kept the first.
            result.append(_labeled(record, waiting.pop(identity)))
        elif identity in skipped_ids:
            continue
        elif identity is None or not record.get("iscrowd"):
            missing.append(identity)
        elif _has_mask(record, sizes):
            result.append({**record, "exits": {"flags": ["crowd_kept"]}})
        else:
            missing.append(identity)
    for record in result:
        _check_finite(record)
    if missing:
        first = ", ".join(str(identity) for identity in missing[:10])
        raise ValueError(
            f"{len(missing)} annotation(s) have neither a pseudo mask nor a reason to "
            f"be skipped, the first: {first}. Every annotation must be accounted for."
        )
    return result


def _check_finite(record: dict[str, Any]) -> None:
    try:
        json.dumps(record, allow_nan=False)
    except ValueError as error:
        raise ValueError(
            f"Annotation {record['id']}: one of its fields holds NaN or an infinity; "
            "numbers in JSON must be finite."
        ) from error


def _identity(record: Any) -> int | str | None:
    """The id of a record; None, as in the list of skipped ones, if it has no usable."""
    identity = record.get("id") if isinstance(record, dict) else None
    return identity if type(identity) in (int, str) else None


def _labeled(record: dict[str, Any], row: PseudoInstance) -> dict[str, Any]:
    box = record.get("bbox")
    hits = None if row.click_hit is None else [int(hit) for hit in row.click_hit]
    labels = {
        "segmentation": row.rle,
        "area": run_lengths.area(row.rle),
        "bbox": box if _is_box(box) else run_lengths.bounding_box(row.rle),
        "iscrowd": record.get("iscrowd", 0),
        "score": float(row.score),
        "exits": {
            "score": float(row.score),
            "click_hit": hits,
            "box_iou": float(row.box_iou),
            "num_parts": int(row.num_parts),
            "flags": list(row.flags),
        },
    }
    return {**record, **labels}


def _is_box(box: Any) -> bool:
    """Whether a value is [x, y, width, height] with finite numbers and an area."""
    if not isinstance(box, list | tuple) or len(box) != 4:
        return False
    numbers = [v for v in box if isinstance(v, int | float) and math.isfinite(v)]
    return len(numbers) == 4 and numbers[2] > 0 and numbers[3] > 0


def _has_mask(record: dict[str, Any], sizes: dict[Any, tuple[Any, Any]]) -> bool:
    """Whether a record carries a segmentation that decodes to some pixels."""
    segmentation: Any = record.get("segmentation")
    height, width = sizes.get(record.get("image_id"), (None, None))
    try:
        if isinstance(segmentation, list):
            if not isinstance(height, int) or not isinstance(width, int):
                return False
            if any(len(ring) < 6 or len(ring) % 2 for ring in segmentation):
                return False
            if not all(math.isfinite(v) for ring in segmentation for v in ring):
                return False
            parts = coco_mask.frPyObjects(segmentation, height, width)
            return bool(parts) and int(coco_mask.area(coco_mask.merge(parts))) > 0
        size = tuple(segmentation["size"])
        if None not in (height, width) and size != (height, width):
            return False
        counts = segmentation["counts"]
        if isinstance(counts, list):
            # pycocotools trusts the counts, so they are checked before it sees them.
            sound = all(isinstance(c, int) and c >= 0 for c in counts)
            return sound and sum(counts) == math.prod(size) and sum(counts[1::2]) > 0
        return run_lengths.area(segmentation) > 0
    except (TypeError, KeyError, ValueError, IndexError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
