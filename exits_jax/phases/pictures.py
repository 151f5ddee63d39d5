"""The contact sheet: what the method saw, thought and made of some objects."""

import logging
from typing import Any

import jax
import ml_collections as mlc
import numpy as np

from exits_jax.data.annotations import AnnotationError, Instance
from exits_jax.data.batches import label_batches
from exits_jax.data.crops import Window, crop_image
from exits_jax.data.extreme_points import decode_mask
from exits_jax.export import rle
from exits_jax.export.contact_sheet import Panel, write_contact_sheet
from exits_jax.models.params import abstract_graph
from exits_jax.phases.build import (
    crop_options,
    generator_builder,
    image_stats,
    point_options,
    selected,
    uses_extractor,
)
from exits_jax.phases.warmup import extractor
from exits_jax.phases.workdir import Workdir
from exits_jax.train.step import retrieve

_logger = logging.getLogger(__name__)
NAME = "contact_sheet.png"


def draw_pictures(
    config: mlc.ConfigDict,
    workdir: Workdir,
    objects: list[Instance],
    pseudo: dict[Any, dict],
    truth: dict[Any, Any],
    ious: dict[Any, float],
    separated: set,
) -> None:
    """Draws `evaluate.num_pictures` objects, separated ones first."""
    chosen = _choose(objects, separated, config.evaluate.num_pictures)
    if not chosen:
        return
    size = config.crop.size
    found = _retrieved(config, workdir, chosen)
    panels = []
    for item, seen in zip(chosen, found, strict=True):
        window = Window(*(int(edge) for edge in seen["window"]))
        record = pseudo.get(item.annotation_id)
        mask = np.zeros(item.image_size, bool)
        if record is not None:
            mask = rle.decode(record["segmentation"])
        true_mask = _true_mask(truth, item)
        iou = ious.get(item.annotation_id)
        panels.append(
            Panel(
                crop=seen["image"],
                extreme_points=seen["extreme_points"] if seen["has_points"] else None,
                scores=seen.get("margin"),
                pseudo_fg=seen.get("fg"),
                pseudo_bg=seen.get("bg"),
                mask=_crop_mask(mask, window, size),
                true_mask=None
                if true_mask is None
                else _crop_mask(true_mask, window, size),
                title=f"id {item.annotation_id}"
                + ("" if iou is None else f"  IoU {iou:.2f}"),
            )
        )
    write_contact_sheet(workdir / NAME, panels)
    _logger.info("pictures: %s", workdir / NAME)


def _choose(objects: list[Instance], separated: set, count: int) -> list[Instance]:
    """Up to half separated objects, the rest whole ones, each spread over the list."""
    large = [item for item in objects if _area(item) > 32**2] or objects
    parted = [item for item in large if item.annotation_id in separated]
    whole = [item for item in large if item.annotation_id not in separated]
    first = _spread(parted, min(len(parted), count // 2))
    return first + _spread(whole, count - len(first))


def _spread(items: list[Instance], count: int) -> list[Instance]:
    count = min(count, len(items))
    return [items[round(k)] for k in np.linspace(0, len(items) - 1, count)]


def _retrieved(
    config: mlc.ConfigDict, workdir: Workdir, chosen: list[Instance]
) -> list[dict[str, np.ndarray]]:
    """Crop of each object and, for EXITS, what the point retrieval found in it."""
    batch = min(8, len(chosen))
    label = None
    if uses_extractor(config):
        choice = selected(workdir) if config.similarity.select else {}
        build = generator_builder(config, role="extractor")
        graph = abstract_graph(lambda rngs: build(rngs).encoder)
        params = jax.device_get(extractor(config, workdir))
        options, stats = point_options(config, choice), image_stats(config)
        patch_size = config.model.patch_size
        label = jax.jit(
            lambda rows: (
                retrieve(
                    graph,
                    params,
                    rows,
                    options=options,
                    stats=stats,
                    patch_size=patch_size,
                ).pseudo
            )
        )
    side = config.crop.size // config.model.patch_size
    found: list[dict[str, np.ndarray]] = []
    for rows in label_batches(chosen, crop_options(config), batch=batch):
        rows = {name: np.asarray(value) for name, value in rows.items()}
        if label is not None:
            pseudo = label(rows)
            for name in ("margin", "fg", "bg"):
                points = np.asarray(getattr(pseudo, name))
                rows[name] = points.reshape(-1, side, side)
        for row in range(batch):
            if rows["index"][row] >= 0:
                found.append({name: value[row] for name, value in rows.items()})
    return found


def _true_mask(truth: dict[Any, Any], item: Instance) -> np.ndarray | None:
    try:
        return decode_mask(truth[item.annotation_id], *item.image_size)
    except (KeyError, AnnotationError):  # there is none, or none that can be read
        return None


def _crop_mask(mask: np.ndarray, window: Window, size: int) -> np.ndarray:
    pixels = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
    return crop_image(pixels, window, size)[..., 0] > 127


def _area(item: Instance) -> float:
    x0, y0, x1, y1 = item.box
    return (x1 - x0) * (y1 - y0)
