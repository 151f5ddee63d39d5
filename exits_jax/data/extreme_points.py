"""True masks to extreme points: top, left, bottom, right, (x, y) in image pixels.

Two rules. "extremenet" is the published one of ExtremeNet (Zhou et al., CVPR 2019),
whose files the paper trains on (Section 4.1); its points come from polygon vertices
and may lie just off the object. "clean" takes pixels of the mask itself.
"""

from typing import Any

import numpy as np

from exits_jax.data.click_noise import (
    ClickNoise,
    drawn_inside,
    generator,
    jittered_points,
    point_in_band,
    point_on_run,
)
from exits_jax.data.extremenet import extremenet_points, extremenet_runs
from exits_jax.data.masks import decode_mask
from exits_jax.data.records import fault, is_id

__all__ = [
    "MODES",
    "clean_points",
    "decode_mask",
    "extremenet_points",
    "json_points",
    "points_of_record",
]

MODES = ("extremenet", "clean")


def points_of_record(
    record: dict[str, Any],
    image_record: dict[str, Any] | None,
    *,
    mode: str,
    noise: ClickNoise | None = None,
) -> np.ndarray | None:
    """Extreme points of one record from its mask.

    Args:
        record: An entry of `annotations`; not changed.
        image_record: Its entry of `images`; None if there is none.
        mode: "extremenet" or "clean".
        noise: What to change about the points.

    Returns:
        `[4, 2]`, (x, y) inside the image, order top, left, bottom, right: whole numbers
        in float32, or with noise float64 of 2 decimals. None for a crowd region, a
        record that has points and one without a mask.

    Raises:
        ValueError: `mode` is not one of the choices.
        AnnotationError: The mask is faulty (see `decode_mask`), the image is unknown
            (E107) or has no size (W109), or noise has no id to be drawn by (E105).
    """
    _check_mode(mode)
    segmentation = record.get("segmentation")
    if record.get("iscrowd") == 1 or record.get("extreme_points") or not segmentation:
        return None
    if image_record is None:
        image_id = record.get("image_id")
        raise fault("E107", f"image_id {image_id!r:.40} is not among the images.")
    height, width = image_record.get("height"), image_record.get("width")
    if type(height) is not int or type(width) is not int or min(height, width) < 1:
        raise fault(
            "W109",
            f"image {image_record.get('id')!r:.40} has the height {height!r:.40} and "
            f"the width {width!r:.40}; its mask needs both in pixels.",
        )
    if noise is not None and noise.is_active:
        return _noisy_points(record, (height, width), mode, noise)
    return _plain_points(segmentation, (height, width), mode)


def json_points(points: np.ndarray) -> list[list[int | float]]:
    """Points as JSON values: whole numbers as such, others with 2 decimals."""
    rows = np.asarray(points, np.float64).round(2).tolist()
    return [[int(v) if v.is_integer() else v for v in row] for row in rows]


def clean_points(mask: np.ndarray) -> np.ndarray:
    """Extreme points that are pixels of the mask.

    Of the pixels in the outermost row or column, the one nearest to their middle; of
    two equally near ones, the upper or left one.

    Args:
        mask: bool `[height, width]`.

    Returns:
        float32 `[4, 2]`, (x, y), order top, left, bottom, right.

    Raises:
        AnnotationError: The mask is empty (E213).
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        raise fault("E213", "its mask is empty; expected at least one pixel.")
    top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
    return np.array(
        [
            (_most_central(mask[top]), top),
            (left, _most_central(mask[:, left])),
            (_most_central(mask[bottom]), bottom),
            (right, _most_central(mask[:, right])),
        ],
        np.float32,
    )


def _check_mode(mode: str) -> None:
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; choose one of {', '.join(MODES)}.")


def _most_central(line: np.ndarray) -> int:
    pixels = np.flatnonzero(line)
    return int(pixels[np.argmin(np.abs(2 * pixels - pixels[0] - pixels[-1]))])


def _plain_points(segmentation: Any, size: tuple[int, int], mode: str) -> np.ndarray:
    if mode == "extremenet":
        return extremenet_points(segmentation, *size)
    return clean_points(decode_mask(segmentation, *size))


def _noisy_points(
    record: dict[str, Any], size: tuple[int, int], mode: str, noise: ClickNoise
) -> np.ndarray:
    annotation_id, segmentation = record.get("id"), record["segmentation"]
    if not is_id(annotation_id):
        raise fault(
            "E105",
            f"its id is {annotation_id!r:.40}; click noise is drawn by it, expected a "
            "number or a string.",
        )
    rng = generator(noise, annotation_id)
    points = _plain_points(segmentation, size, mode)
    if noise.kind != "run":
        return jittered_points(points, size, noise, rng)
    if mode == "clean" or isinstance(segmentation, dict):
        mask = decode_mask(segmentation, *size)
        starts = clean_points(mask).astype(int).tolist()
        draw_side = lambda side: point_in_band(mask, side, starts[side], rng)
    else:
        runs = extremenet_runs(segmentation, *size)
        draw_side = lambda side: point_on_run(
            runs[side].vertices, runs[side].joined, rng
        )

    def draw() -> np.ndarray:
        moved = points.astype(np.float64)
        for side in np.flatnonzero(rng.random(4) < noise.amount).tolist():
            moved[side] = draw_side(side)
        return moved

    return drawn_inside(draw, points, size)
