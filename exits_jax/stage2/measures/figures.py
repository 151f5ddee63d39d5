"""Figures of a detections file: mask AP, and recall on separated and occluded objects.

AP is computed by pycocotools, by the lvis package where the annotation is federated.
"""

import contextlib
import io
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from exits_jax.stage2.errors import Stage2Error
from exits_jax.stage2.inputs.annotations import CocoJson, read_coco
from exits_jax.stage2.inputs.json_file import read_json
from exits_jax.stage2.measures.recall import Rle, recall, rle_of, targets_of, true_masks
from exits_jax.stage2.shims import numpy_float

_COCO_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")  # order of COCOeval.stats
_LVIS_NAMES = (*_COCO_NAMES, "APr", "APc", "APf")

Figures = dict[str, Any]


def coco_figures(
    val: Path,
    detections: Path | Sequence[Mapping[str, Any]],
    *,
    separated_ids: Path | None = None,
    occluded_ids: Path | None = None,
    lvis: bool = False,
) -> Figures:
    """Judges detections by the true masks.

    Args:
        val: COCO instances JSON with true masks. Crowd regions are ignored.
        detections: List of COCO results with masks (RLE), or a JSON file of them.
        separated_ids: The separated objects: a JSON list of annotation ids or the
            published pickle, of which nothing is run. Without it, they are the objects
            with two or more 8-connected parts of at least 5 % each.
        occluded_ids: The occluded objects, likewise; without it there is no figure.
        lvis: Whether classes are annotated on some images only, as in LVIS.

    Returns:
        `metric`: "coco" or "lvis". In percent, None where there is no such object:
        `AP`, `AP50`, `AP75`, `APs`, `APm`, `APl` (and by frequency `APr`, `APc`, `APf`
        for LVIS), `AP_class_agnostic` (None for LVIS), `recall_separated`,
        `recall_occluded`. `per_class`: AP of each class. `separated`, `occluded`:
        {"objects", "not_in_val"}, how many the recall is of and how many more the list
        names, on other images; None for `occluded` without a list.

    Raises:
        Stage2Error: If a file is missing or broken, or a detection does not fit `val`.
    """
    truth = read_coco(val)
    found = _checked(_read(detections), truth)
    masks = true_masks(truth)
    figures = (
        _lvis_figures(truth, found) if lvis else _coco_figures(truth, found, masks)
    )
    lists = {
        "separated": targets_of(truth, masks, separated_ids),
        "occluded": occluded_ids and targets_of(truth, masks, occluded_ids),
    }
    for name, listed in lists.items():
        targets, elsewhere = listed or ([], 0)
        figures[f"recall_{name}"] = recall(targets, found)
        figures[name] = listed and {"objects": len(targets), "not_in_val": elsewhere}
    return figures


def _coco_figures(
    truth: CocoJson, found: list[dict[str, Any]], masks: Mapping[Any, Rle]
) -> Figures:
    # A new id, as COCOeval takes the object of id 0 for none; and mask pixels, as the
    # size of a detection goes by them.
    objects = [
        record
        | {
            "id": number,
            "segmentation": masks[record["id"]],
            "iscrowd": int(bool(record.get("iscrowd"))),
        }
        for number, record in enumerate(truth.annotations, start=1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        true, seen = _indexed(truth, objects), _indexed(truth, found)
        by_class = _evaluated(COCOeval(true, seen, "segm"))
        together = COCOeval(true, seen, "segm")
        together.params.useCats = 0
        together = _evaluated(together)
    figures: Figures = {"metric": "coco"}
    figures |= zip(_COCO_NAMES, map(_percent, by_class.stats[:6]))
    figures["AP_class_agnostic"] = _percent(together.stats[0])
    precision = by_class.eval["precision"][:, :, :, 0, -1]  # all sizes, 100 detections
    figures["per_class"] = _per_class(truth, by_class.params.catIds, precision)
    return figures


def check_federated(truth: CocoJson) -> None:
    """Raises Stage2Error if LVIS's metric lacks a field of the file."""
    absent = [
        name
        for records, names in (
            (truth.images, ("neg_category_ids", "not_exhaustive_category_ids")),
            (truth.content["categories"], ("frequency",)),
        )
        for name in names
        if any(name not in record for record in records)
    ]
    if absent:
        raise Stage2Error(
            f"{truth.path} is no LVIS file: it has records without {', '.join(absent)}."
        )


def _lvis_figures(truth: CocoJson, found: list[dict[str, Any]]) -> Figures:
    check_federated(truth)
    with numpy_float(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its logger.warn
        from lvis import LVIS, LVISEval, LVISResults

        true = LVIS(str(truth.path))
        for number, record in enumerate(true.dataset["annotations"], start=1):
            record["id"] = number  # as COCOeval, it takes the object of id 0 for none
        true._create_index()
        judge = LVISEval(true, LVISResults(true, found or [_finds_nothing(truth)]))
        judge.run()
    figures: Figures = {"metric": "lvis"}
    figures |= {name: _percent(judge.results[name]) for name in _LVIS_NAMES}
    figures["AP_class_agnostic"] = None  # what of a class is not annotated is unknown
    precision = judge.eval["precision"][:, :, :, 0]
    figures["per_class"] = _per_class(truth, judge.params.cat_ids, precision)
    return figures


def _finds_nothing(truth: CocoJson) -> dict[str, Any]:
    """A detection with an empty mask: the lvis package refuses a list of none."""
    record = truth.annotations[0]
    image = next(each for each in truth.images if each["id"] == record["image_id"])
    empty = np.zeros((image["height"], image["width"]), np.uint8, order="F")
    return {
        "image_id": record["image_id"],
        "category_id": record["category_id"],
        "score": 0.0,
        "segmentation": coco_mask.encode(empty),
    }


def _indexed(truth: CocoJson, records: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    coco.dataset = truth.content | {"annotations": records}
    coco.createIndex()
    return coco


def _evaluated(judge: COCOeval) -> COCOeval:
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return judge


def _per_class(
    truth: CocoJson, category_ids: Sequence[Any], precision: np.ndarray
) -> dict[str, float | None]:
    """Means over IoU thresholds and recalls; -1 stands for a class without objects."""
    names = {each["id"]: each["name"] for each in truth.content["categories"]}
    return {
        names[category]: _percent(precision[:, :, place].mean())
        for place, category in enumerate(category_ids)
    }


def _percent(value: float) -> float | None:
    """Both packages say -1 where there is nothing to find."""
    return None if value < 0 else 100 * float(value)


def _read(detections: Path | Sequence[Mapping[str, Any]]) -> list[Any]:
    if not isinstance(detections, str | Path):
        return list(detections)
    found = read_json(Path(detections))
    if not isinstance(found, list):
        raise Stage2Error(f"{detections} is no COCO result: expected a JSON list.")
    return found


def _checked(found: list[Any], truth: CocoJson) -> list[dict[str, Any]]:
    """The detections with what is needed; no box, as sizes go by mask pixels."""
    images = {image["id"]: image for image in truth.images}
    categories = {each["id"] for each in truth.content["categories"]}
    checked = []
    for number, detection in enumerate(found, start=1):
        where = f"detection {number}"
        try:
            fields = ("image_id", "category_id", "score", "segmentation")
            image_id, category_id, score, mask = (detection[field] for field in fields)
            known = image_id in images, category_id in categories
        except (KeyError, TypeError) as error:
            raise Stage2Error(
                f"{where} is no COCO result with a mask: {error!r:.80}."
            ) from error
        if not all(known):
            of = f"category {category_id!r}" if known[0] else f"image {image_id!r}"
            raise Stage2Error(
                f"{where} is of the {of}, which is not in {truth.path}: detections and "
                "masks are of different sets."
            )
        if not isinstance(score, int | float) or not math.isfinite(score):
            raise Stage2Error(f"{where} has the score {score!r}; expected a number.")
        rle = rle_of(mask, images[image_id], where)
        checked.append(
            {
                "id": number,
                "image_id": image_id,
                "category_id": category_id,
                "iscrowd": 0,
                "score": float(score),
                "segmentation": rle,
                "area": float(coco_mask.area(rle)),
            }
        )
    return checked
