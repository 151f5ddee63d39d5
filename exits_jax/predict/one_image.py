"""Masks for clicks on one image, as a file to look at or to go on with."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from exits_jax.files.json_files import write_json
from exits_jax.files.pictures import write_png
from exits_jax.labeling.prediction import Prediction
from exits_jax.predict.overlay import draw_overlay
from exits_jax.predict.predictor import Predictor, as_pixels
from exits_jax.run.workdir import ConfigError

SUFFIXES = (".png", ".json")
_logger = logging.getLogger(__name__)


def predict_image(
    predictor: Predictor,
    source: Path,
    objects: Sequence[Any],
    out: Path,
    *,
    overlay: bool = False,
) -> None:
    """Writes the masks of clicked objects; says what is known of each.

    Args:
        predictor: The model.
        source: An image file.
        objects: Clicks or boxes, as for `Predictor.predict`.
        out: A .png, of one object 255 where it is and 0 elsewhere, of several their
            numbers from 1, later ones over earlier ones; or a .json with run lengths.
        overlay: Draw the masks over the image instead.

    Raises:
        ConfigError: If `out` is neither.
        ClickError: If clicks describe no object of the image.
    """
    if out.suffix not in SUFFIXES or (overlay and out.suffix != ".png"):
        known = " or ".join(SUFFIXES if not overlay else SUFFIXES[:1])
        raise ConfigError(f"--out={out}: expected a name that ends with {known}.")
    pixels = as_pixels(source)
    found = predictor.predict_many(objects, image=pixels)
    for number, each in enumerate(found, 1):
        _logger.info("object %d: %s", number, described(each))
    if out.suffix == ".json":
        write_json(out, [record(each) for each in found], indent=2)
    else:
        write_png(out, draw_overlay(pixels, found) if overlay else label_map(found))
    _logger.info("written: %s", out)


def described(found: Prediction) -> str:
    """What is known of a mask, in words."""
    if found.is_empty:
        return f"no pixel exceeds the threshold {found.threshold:g} (E301)"
    hits = found.click_hit
    clicks = "" if hits is None else f", {sum(hits)} of {len(hits)} clicks on its edge"
    return (
        f"{int(found.part.sum())} px, score {found.score:.2f}{clicks}, its own box "
        f"has IoU {found.box_iou:.2f} with the clicked one"
        + (f", {found.num_parts} parts" if found.num_parts > 1 else "")
        + "".join(f", {flag}" for flag in found.flags)
    )


def record(found: Prediction) -> dict[str, Any]:
    """A mask and what is known of it, for JSON."""
    points = found.item.extreme_points
    return {
        "segmentation": found.rle(),
        "extreme_points": None if points is None else points.tolist(),
        "box": list(found.item.box),  # left, top, right, bottom
        "score": found.score,
        "click_hit": found.click_hit,
        "box_iou": found.box_iou,
        "num_parts": found.num_parts,
        "flags": list(found.flags),
        "threshold": found.threshold,
    }


def label_map(found: Sequence[Prediction]) -> np.ndarray:
    """Where the objects are, uint8 or uint16 [height, width]; 255 for a single one."""
    if len(found) == 1:
        return found[0].mask * np.uint8(255)
    kind = np.uint8 if len(found) < 256 else np.uint16
    labels = np.zeros(found[0].item.image_size, kind)
    for number, each in enumerate(found, 1):
        labels[each.mask] = number
    return labels
