"""Phase evaluate: pseudo masks against true ones, beside masks that cost nothing."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections as mlc
import numpy as np

from exits_jax.data.annotations import (
    AnnotationError,
    Instance,
    is_id,
    read_source,
)
from exits_jax.data.extreme_points import decode_mask
from exits_jax.data.images import read_image
from exits_jax.export import evaluation, rle
from exits_jax.export.floors import box_mask, grabcut_mask
from exits_jax.phases.inputs import instances
from exits_jax.phases.order import begin
from exits_jax.phases.pictures import draw_pictures, spread
from exits_jax.phases.seen import POINT_SHARES, point_quality
from exits_jax.phases.workdir import ConfigError, Workdir

_logger = logging.getLogger(__name__)


class Measured(NamedTuple):
    """One object: IoU of each method, and the groups it belongs to."""

    item: Instance
    ious: dict[str, float]
    size: str
    is_separated: bool


def run(config: mlc.ConfigDict, workdir: Workdir) -> None:
    """Writes `evaluation.json` and the contact sheet; prints the table.

    Every true mask counts: an object without a pseudo mask has IoU 0. Crowd regions,
    what `prepare` left out and objects with a side of `data.min_side_px` or less do
    not count.
    """
    if not begin(config, workdir, "evaluate"):
        return
    sources = workdir.facts("prepare")["sources"]
    split = _split(config, sources)
    source = read_source(sources[split])
    folder = workdir.path if split == "train" else workdir / split
    pseudo = _pseudo_masks(folder)
    objects = [
        item
        for item in instances(config, workdir, split)
        if min(_sides(item)) > config.data.min_side_px
    ]
    truth = _true_segmentations(source)
    judged = [item for item in objects if item.annotation_id in truth]
    measured = _measure(config, judged, truth, pseudo, _separated_ids(config))
    if measured:
        some = spread([found.item for found in measured], config.evaluate.num_points)
        points = point_quality(config, workdir, some, truth)
        _write_summary(config, workdir, split, measured, points)
    else:
        _logger.info("%s has no true masks: nothing to compare with", sources[split])
        evaluation.write_json(
            workdir / "evaluation.json", {"split": split, "all": None}
        )
    ious = {found.item.annotation_id: found.ious["EXITS"] for found in measured}
    separated = {found.item.annotation_id for found in measured if found.is_separated}
    draw_pictures(config, workdir, objects, pseudo, truth, ious, separated)
    workdir.finish("evaluate")


def _split(config: mlc.ConfigDict, sources: dict[str, str]) -> str:
    """The validation split where there is one that has masks, else the other."""
    labeled = [name for name in ("val", "train") if name in config.generate.splits]
    found = [name for name in labeled if name in sources]
    if not found:
        raise ConfigError(
            f"generate.splits = {config.generate.splits!r} names no split of this run, "
            f"which has {', '.join(sources)}: there is no mask to evaluate."
        )
    return found[0]


def _write_summary(
    config: mlc.ConfigDict,
    workdir: Workdir,
    split: str,
    measured: list[Measured],
    points: dict[str, float],
) -> None:
    summaries = {
        method: evaluation.summarize(
            [
                evaluation.EvaluatedObject(
                    found.item.annotation_id,
                    found.item.category_id,
                    found.ious[method],
                    found.size,
                    found.is_separated,
                )
                for found in measured
            ]
        )
        for method in measured[0].ious
    }
    ours = summaries["EXITS"]
    floors = {
        method.lower().replace(" ", "_"): summary
        for method, summary in summaries.items()
        if method != "EXITS"
    }
    threshold = config.generate.threshold
    evaluation.write_json(
        workdir / "evaluation.json",
        {
            **ours,
            "floors": floors,
            "points": points,
            "split": split,
            "method": config.loss.method,
            "mask_threshold": threshold,
            "size_by": config.evaluate.size_by,
        },
    )
    name = {"exits": "EXITS", "mil_crf": "MIL + CRF"}[config.loss.method]
    table = evaluation.format_table(
        {
            name: ours,
            **{key: value for key, value in summaries.items() if key != "EXITS"},
        }
    )
    _logger.info(
        "mIoU on %s, mask threshold %g, sizes by %s area:\n%s",
        split,
        threshold,
        config.evaluate.size_by,
        table,
    )
    if points:
        _logger.info(
            "points on %d crops: seeds on the object %.1f %%, precision of foreground "
            "%.1f %% and background %.1f %%, which cover %.1f %% and %.1f %% of the "
            "box; %.1f %% of the crops without any",
            points["crops"],
            *(100 * points[name] for name in POINT_SHARES),
        )


def _measure(
    config: mlc.ConfigDict,
    objects: list[Instance],
    truth: dict[Any, Any],
    pseudo: dict[Any, dict],
    separated_ids: set | None,
) -> list[Measured]:
    """IoU of every object, image by image: each image is decoded once."""

    def measure_image(group: list[Instance]) -> list[Measured]:
        image = read_image(group[0].image_path) if config.evaluate.grabcut else None
        found = []
        for item in group:
            try:
                true_mask = decode_mask(truth[item.annotation_id], *item.image_size)
            except AnnotationError:
                continue  # an unreadable true mask cannot judge
            masks = {
                "EXITS": _mask_of(pseudo.get(item.annotation_id), item),
                "box as mask": box_mask(item.box, item.image_size),
            }
            if image is not None:
                masks["GrabCut"] = grabcut_mask(image, item.box)
            found.append(_judge(config, item, true_mask, masks, separated_ids))
        return found

    ordered = sorted(objects, key=lambda item: item.image_path)
    groups = [list(group) for _, group in groupby(ordered, lambda x: x.image_path)]
    with ThreadPoolExecutor() as pool:
        measured = [found for each in pool.map(measure_image, groups) for found in each]
    if len(measured) < len(objects):
        _logger.warning(
            "%d of %d true masks cannot be read: their objects are not judged",
            len(objects) - len(measured),
            len(objects),
        )
    return measured


def _judge(
    config: mlc.ConfigDict,
    item: Instance,
    true_mask: np.ndarray,
    masks: dict[str, np.ndarray],
    separated_ids: set | None,
) -> Measured:
    width, height = _sides(item)
    by_box = config.evaluate.size_by == "box"
    area = width * height if by_box else int(true_mask.sum())
    if separated_ids is None:
        separated = evaluation.is_separated(true_mask)
    else:
        separated = item.annotation_id in separated_ids
    return Measured(
        item,
        {name: evaluation.mask_iou(mask, true_mask) for name, mask in masks.items()},
        evaluation.size_bucket(area),
        separated,
    )


def _pseudo_masks(folder: Path) -> dict[Any, dict]:
    """Annotations of `pseudo_masks.json` by id."""
    path = folder / "pseudo_masks.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run --phase=generate first.")
    records = json.loads(path.read_text())["annotations"]
    return {record["id"]: record for record in records}


def _mask_of(record: dict | None, item: Instance) -> np.ndarray:
    if record is None:
        return np.zeros(item.image_size, bool)
    return rle.decode(record["segmentation"])


def _true_segmentations(source: dict[str, Any]) -> dict[Any, Any]:
    """Segmentations by annotation id, of the records that have one.

    Of records that share an id the first counts, as for the reader.
    """
    found: dict[Any, Any] = {}
    for record in source["annotations"]:
        if isinstance(record, dict) and is_id(record.get("id")):
            found.setdefault(record["id"], record.get("segmentation"))
    return {identity: mask for identity, mask in found.items() if mask}


def _separated_ids(config: mlc.ConfigDict) -> set | None:
    """The listed ids, or None to find separated objects by their parts."""
    if not config.evaluate.separated_ids:
        return None
    path = Path(config.evaluate.separated_ids)
    listed = json.loads(path.read_text())
    if isinstance(listed, dict) and len(listed) == 1:
        listed = next(iter(listed.values()))
    if not isinstance(listed, list):
        raise ConfigError(f"{path}: expected a JSON list of annotation ids.")
    return set(listed)


def _sides(item: Instance) -> tuple[float, float]:
    x0, y0, x1, y1 = item.box
    return x1 - x0, y1 - y0
