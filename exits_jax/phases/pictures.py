"""The contact sheet: what the method saw, thought and made of some objects."""

import logging
from typing import Any

import ml_collections as mlc
import numpy as np

from exits_jax.data.annotations import Instance
from exits_jax.data.crops import Window
from exits_jax.export import rle
from exits_jax.export.contact_sheet import Panel, write_contact_sheet
from exits_jax.phases.seen import crop_mask, look_at, true_mask_of
from exits_jax.phases.workdir import Workdir

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
    found = look_at(config, workdir, chosen)
    panels = []
    for item, seen in zip(chosen, found, strict=True):
        window = Window(*(int(edge) for edge in seen["window"]))
        record = pseudo.get(item.annotation_id)
        mask = np.zeros(item.image_size, bool)
        if record is not None:
            mask = rle.decode(record["segmentation"])
        true_mask = true_mask_of(truth, item)
        iou = ious.get(item.annotation_id)
        panels.append(
            Panel(
                crop=seen["image"],
                extreme_points=seen["extreme_points"] if seen["has_points"] else None,
                scores=seen.get("margin"),
                pseudo_fg=seen.get("fg"),
                pseudo_bg=seen.get("bg"),
                mask=crop_mask(mask, window, size),
                true_mask=None
                if true_mask is None
                else crop_mask(true_mask, window, size),
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
    first = spread(parted, min(len(parted), count // 2))
    return first + spread(whole, count - len(first))


def spread(items: list[Instance], count: int) -> list[Instance]:
    """Up to `count` of the items, evenly spaced."""
    count = min(count, len(items))
    return [items[round(k)] for k in np.linspace(0, len(items) - 1, count)]


def _area(item: Instance) -> float:
    x0, y0, x1, y1 = item.box
    return (x1 - x0) * (y1 - y0)
