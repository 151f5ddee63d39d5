"""The contact sheet: what the method saw, thought and made of some objects."""

import logging
from collections.abc import Mapping
from typing import Any

import ml_collections as mlc
import numpy as np

from exits_jax.data.crops import Window
from exits_jax.data.table import Instances
from exits_jax.evaluation.contact_sheet import Panel, write_contact_sheet
from exits_jax.evaluation.point_quality import (
    Find,
    crop_mask,
    look_at,
    pseudo_mask_of,
    true_mask_of,
)
from exits_jax.object_sizes import AREAS
from exits_jax.run.check_weights import described
from exits_jax.run.from_config import encoder_config, method_name
from exits_jax.run.workdir import Workdir

_logger = logging.getLogger(__name__)
NAME = "contact_sheet.png"


def draw_pictures(
    config: mlc.ConfigDict,
    workdir: Workdir,
    find: Find | None,
    objects: Instances,
    pseudo: Mapping[Any, dict],
    truth: Mapping[Any, Any],
    ious: dict[Any, float],
    separated: set,
    *,
    split: str,
    classes: Mapping[Any, str],
) -> None:
    """Draws `evaluate.num_pictures` objects, separated ones first.

    Args:
        config: The configuration.
        workdir: The run.
        find: What the point retrieval finds in a batch of crops.
        objects: All objects of the split.
        pseudo: Their pseudo masks by annotation id.
        truth: Their true masks by annotation id.
        ious: How well the two agree, likewise.
        separated: Ids of objects in several parts.
        split: Where the objects are from.
        classes: Names by category id.
    """
    chosen = _choose(objects, separated, config.evaluate.num_pictures)
    if not chosen:
        return
    size = config.crop.size
    found = look_at(config, find, chosen, name="drawing pictures")
    panels = []
    for item, seen in found:
        window = Window(*(int(edge) for edge in seen["window"]))
        mask = pseudo_mask_of(pseudo, item)
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
                title=f"{classes.get(item.category_id, item.category_id)}"
                + ("" if iou is None else f", IoU {iou:.2f}")
                + f", id {item.annotation_id}",
                extent=(window.x1 - window.x0, window.y1 - window.y0),
            )
        )
    if not panels:
        return
    encoder = encoder_config(config, role="generator")
    method = method_name(config)
    model = described(encoder.dim, encoder.depth)
    shown = f"{len(panels)} of {len(objects)} objects"
    shown += ", those in several parts first" if separated else ""
    write_contact_sheet(
        workdir / NAME,
        panels,
        heading=f"{workdir.path.resolve().name}: {method} on {split}",
        note=f"Model: {model}, crops of {size} px, masks above "
        f"{config.generate.threshold:g}. {shown}",
    )
    _logger.info("pictures: %s", workdir / NAME)


def _choose(objects: Instances, separated: set, count: int) -> Instances:
    """Up to half separated objects, the rest whole ones, each spread over the list."""
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    is_large = sides.prod(axis=1) > AREAS["medium"]
    rows = np.flatnonzero(is_large if is_large.any() else ~is_large)
    ids = [objects[row].annotation_id for row in rows.tolist()]
    is_parted = np.array([identity in separated for identity in ids], bool)
    first = spread(rows[is_parted], min(int(is_parted.sum()), count // 2))
    rest = spread(rows[~is_parted], count - len(first))
    return objects.select(np.concatenate([first, rest]))


def spread(rows: np.ndarray, count: int) -> np.ndarray:
    """Up to `count` of the rows, evenly spaced."""
    places = np.linspace(0, len(rows) - 1, min(count, len(rows)))
    return rows[np.round(places).astype(int)]
