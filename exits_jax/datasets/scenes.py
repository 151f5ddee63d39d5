"""Draws a small data set of textured shapes, many of them cut in two by a bar.

The paper's claim is about objects whose visible parts are separated (Section 1,
Figure 1). These scenes hold about 35 % of them, need no download and train in
minutes, so the whole method can be watched at work on a laptop.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from exits_jax.files.atomic import write_bytes

# Ids with gaps, as in COCO: code that counts on 1..K shows its mistake here.
CATEGORIES = {"ellipse": 2, "polygon": 3, "star": 5, "ring": 8, "cross": 13}

_logger = logging.getLogger(__name__)
_SPLITS = ("train", "val")
_VERSION = 1  # raised whenever the same parameters give other pictures
_SUPERSAMPLING = 4

_HUES = {"ellipse": 0.01, "polygon": 0.58, "star": 0.12, "ring": 0.36, "cross": 0.82}
_PATTERNS = {
    "ellipse": "stripes",
    "polygon": "checks",
    "star": "dots",
    "ring": "noise",
    "cross": "waves",
}
_SEPARATION_RATE = 0.35  # share of objects for which a bar is tried
_SEPARATION_TRIES = 8
_MIN_SECOND_PART = 0.15  # share of the whole object


class SceneObject(NamedTuple):
    """One object of a scene and the bar in front of it, if there is one."""

    category: str
    hue: float  # in [0, 1)
    cover: np.ndarray  # [H, W] float32 in [0, 1], the whole object
    bar: np.ndarray | None  # [H, W] float32 in [0, 1]


def draw_scenes(
    folder: str | Path,
    *,
    num_train: int = 1600,
    num_val: int = 220,
    size: int = 160,
    seed: int = 0,
    on_scene: Callable[[], object] = lambda: None,
) -> None:
    """Writes `train/`, `val/`, `train.json` and `val.json` into a folder.

    The JSON files are COCO instance annotations with true masks of the visible
    parts. The result depends on the parameters alone; a folder that already holds
    the finished scenes of the same parameters is left as it is, any other scenes
    in it are drawn again.

    Args:
        folder: Where to write; created when missing.
        num_train: Number of training scenes.
        num_val: Number of validation scenes.
        size: Height and width of a scene in pixels, at least 112.
        seed: Seed of everything that is drawn.
        on_scene: Called after each scene.

    Raises:
        ValueError: If a number of scenes is negative or the scenes are too small.
    """
    counts = dict(zip(_SPLITS, (num_train, num_val)))
    if min(counts.values()) < 0:
        raise ValueError(f"Numbers of scenes must not be negative, got {counts}.")
    if size < 112:
        raise ValueError(
            f"Scenes of {size} px are too small for objects of up to 84 px; "
            "size must be at least 112."
        )
    folder = Path(folder)
    parameters = {"version": _VERSION, "size": size, "seed": seed, **counts}
    marker = folder / "scenes.json"
    if _is_finished(marker, parameters):
        _logger.info("%s already holds these scenes", folder)
        return
    marker.unlink(missing_ok=True)
    for split_index, split in enumerate(_SPLITS):
        (folder / split).mkdir(parents=True, exist_ok=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(counts[split]):
            rng = np.random.default_rng([seed, split_index, index])
            image, objects = draw_scene(rng, size)
            name = f"{index + 1:06d}.png"
            write_bytes(folder / split / name, _png(image))
            record = {"id": index + 1, "file_name": name, "width": size, "height": size}
            images.append(record)
            for category, mask in objects:
                identity = {"id": len(annotations) + 1, "image_id": index + 1}
                annotations.append({**identity, **_annotation(category, mask)})
            on_scene()
        dataset = {
            "info": {"description": "Drawn scenes with separated objects"},
            "images": images,
            "categories": [{"id": i, "name": n} for n, i in CATEGORIES.items()],
            "annotations": annotations,
        }
        write_bytes(folder / f"{split}.json", json.dumps(dataset).encode())
    write_bytes(marker, json.dumps(parameters).encode())


def draw_scene(
    rng: np.random.Generator, size: int
) -> tuple[np.ndarray, list[tuple[str, np.ndarray]]]:
    """Draws one scene.

    Args:
        rng: Source of all randomness.
        size: Height and width in pixels.

    Returns:
        The image, uint8 [size, size, 3] RGB, and per object its category name and
        the mask of its visible part, bool [size, size].
    """
    objects = _add_bars(_place_objects(rng, size), rng, size)
    image = _background(rng, size)
    masks = []
    for item in objects:
        image = _blend(image, _object_paint(item, rng, size), item.cover)
        visible = item.cover >= 0.5
        if item.bar is not None:
            hue = (item.hue + rng.uniform(0.14, 0.86)) % 1.0
            saturation, value = rng.uniform(0.25, 0.6), rng.uniform(0.4, 0.85)
            paint = _paint(rng, size, _random_pattern(rng), (hue, saturation, value))
            image = _blend(image, paint, item.bar, shadow=0.25)
            visible &= item.bar < 0.5
        masks.append((item.category, visible))
    noise = rng.normal(0.0, 1.5, (size, size, 3)).astype(np.float32)
    pixels = np.moveaxis(image, 0, -1) * 255 + noise
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8), masks


def _place_objects(rng: np.random.Generator, size: int) -> list[SceneObject]:
    """One to three objects that keep at least three pixels apart."""
    wanted = int(rng.integers(1, 4))
    taken = np.zeros((size, size), bool)
    objects: list[SceneObject] = []
    for _ in range(60):
        if len(objects) == wanted:
            break
        category = str(rng.choice(list(CATEGORIES)))
        radius = rng.uniform(18, 42 if wanted < 3 else 36)
        center = rng.uniform(radius + 2, size - radius - 2, 2)
        contours = _shape(category, rng)
        cover = _cover([center + radius * contour for contour in contours], size)
        if taken[cover > 0].any():
            continue
        apart = cv2.dilate((cover > 0).astype(np.uint8), np.ones((7, 7), np.uint8))
        taken |= apart.astype(bool)
        hue = (_HUES[category] + rng.uniform(-0.05, 0.05)) % 1.0
        objects.append(SceneObject(category, hue, cover, None))
    return objects


def _add_bars(
    objects: list[SceneObject], rng: np.random.Generator, size: int
) -> list[SceneObject]:
    """Puts bars in front of some objects so that each falls into two parts."""
    result = []
    for index, item in enumerate(objects):
        others = np.zeros((size, size), bool)
        for other in objects[:index] + objects[index + 1 :]:
            others |= other.cover > 0
        tries = _SEPARATION_TRIES if rng.random() < _SEPARATION_RATE else 0
        for _ in range(tries):
            bar = _bar_over(item.cover, rng, size)
            if others[bar > 0].any():
                continue
            if _second_part(item.cover, bar) > _MIN_SECOND_PART:
                item = item._replace(bar=bar)
                break
        result.append(item)
    return result


def _second_part(cover: np.ndarray, bar: np.ndarray) -> float:
    """Size of the second-largest visible part as a share of the whole object."""
    whole = cover >= 0.5
    _, _, stats, _ = cv2.connectedComponentsWithStats(
        (whole & (bar < 0.5)).astype(np.uint8), connectivity=8
    )
    areas = np.sort(stats[1:, cv2.CC_STAT_AREA])
    return float(areas[-2] / whole.sum()) if len(areas) > 1 else 0.0


def _bar_over(cover: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """A bar through the middle of an object that leaves its box on both sides."""
    ys, xs = np.nonzero(cover >= 0.5)
    center = np.array([xs.min() + xs.max(), ys.min() + ys.max()]) / 2
    radius = max(np.ptp(xs), np.ptp(ys)) / 2
    if rng.random() < 0.75:
        angle = rng.choice([0, np.pi / 2]) + rng.uniform(-0.19, 0.19)
    else:
        angle = rng.uniform(0, np.pi)
    across = np.array([-np.sin(angle), np.cos(angle)])
    center = center + across * rng.uniform(-0.2, 0.2) * radius
    half_width = rng.uniform(0.25, 0.5) * radius / 2
    half_length = rng.uniform(1.3, 1.8) * radius
    return _cover([_rectangle(center, angle, half_length, half_width)], size)


def _shape(category: str, rng: np.random.Generator) -> list[np.ndarray]:
    """Outlines within the unit disc, [n, 2] each; a second one is a hole."""
    turn = rng.uniform(0, 2 * np.pi)
    circle = _directions(np.arange(72) * (2 * np.pi / 72))
    squeeze = np.array([1.0, rng.uniform(0.6, 1.0)])
    if category == "ellipse":
        contours = [circle * squeeze]
    elif category == "ring":
        squeeze = np.maximum(squeeze, 0.8)
        contours = [circle * squeeze, circle[::-1] * squeeze * rng.uniform(0.42, 0.6)]
    elif category == "polygon":
        corners = int(rng.integers(4, 8))
        jitter = rng.uniform(-0.3, 0.3, corners)
        angles = (np.arange(corners) + jitter) * (2 * np.pi / corners)
        points = _directions(angles) * rng.uniform(0.85, 1.0, (corners, 1))
        contours = [points]
    elif category == "star":
        tips = int(rng.integers(5, 8))
        radii = np.where(np.arange(2 * tips) % 2, rng.uniform(0.46, 0.62), 1.0)
        contours = [_directions(np.arange(2 * tips) * np.pi / tips) * radii[:, None]]
    else:
        arm, reach = rng.uniform(0.26, 0.38), 0.93
        corner = np.array([[reach, -arm], [reach, arm], [arm, arm]])
        quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])
        turns = [np.linalg.matrix_power(quarter, k) for k in range(4)]
        contours = [np.concatenate([corner @ turned for turned in turns])]
    cos, sin = np.cos(turn), np.sin(turn)
    return [contour @ np.array([[cos, sin], [-sin, cos]]) for contour in contours]


def _directions(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def _rectangle(
    center: np.ndarray, angle: float, half_length: float, half_width: float
) -> np.ndarray:
    along = np.array([np.cos(angle), np.sin(angle)]) * half_length
    across = np.array([-np.sin(angle), np.cos(angle)]) * half_width
    corners = [along + across, along - across, -along - across, across - along]
    return center + np.array(corners)


def _cover(contours: list[np.ndarray], size: int) -> np.ndarray:
    """Share of every pixel that lies inside the outlines, [size, size] float32."""
    large = np.zeros((size * _SUPERSAMPLING,) * 2, np.uint8)
    points = [np.rint(c * _SUPERSAMPLING).astype(np.int32) for c in contours]
    cv2.fillPoly(large, points, 255)
    small = cv2.resize(large, (size, size), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / 255


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Pale patterns that melt into one another, distractors, sometimes a bar."""
    level = rng.uniform(0.5, 0.78)
    layers, weights = [], []
    for _ in range(int(rng.integers(2, 4))):
        value = level + rng.uniform(-0.12, 0.12)
        color = (rng.random(), rng.uniform(0.08, 0.28), value)
        layers.append(_paint(rng, size, _random_pattern(rng), color, contrast=0.16))
        weights.append(np.exp(10 * _smooth_noise(rng, size, 4)))
    total = np.sum(weights, axis=0)
    mixed = [layer * (w / total) for layer, w in zip(layers, weights)]
    image = np.sum(mixed, axis=0)
    for _ in range(int(rng.integers(2, 6))):
        angles = np.arange(n := int(rng.integers(3, 5))) * (2 * np.pi / n)
        outline = _directions(angles + rng.uniform(0, 2 * np.pi))
        outline = rng.uniform(0, size, 2) + rng.uniform(6, 15) * outline
        image = _distract(image, outline, rng, size)
    if rng.random() < 0.4:
        center, angle = rng.uniform(0.2 * size, 0.8 * size, 2), rng.uniform(0, np.pi)
        outline = _rectangle(
            center, angle, rng.uniform(0.3, 0.9) * size, rng.uniform(3.5, 8)
        )
        image = _distract(image, outline, rng, size)
    return image


def _distract(
    image: np.ndarray, outline: np.ndarray, rng: np.random.Generator, size: int
) -> np.ndarray:
    color = (rng.random(), rng.uniform(0.15, 0.45), rng.uniform(0.4, 0.85))
    paint = _paint(rng, size, _random_pattern(rng), color)
    return _blend(image, paint, _cover([outline], size), shadow=0.15)


def _object_paint(item: SceneObject, rng: np.random.Generator, size: int) -> np.ndarray:
    """The pattern of the object's class, a little lighter towards the top left."""
    color = (item.hue, rng.uniform(0.5, 0.74), rng.uniform(0.66, 0.9))
    paint = _paint(rng, size, _PATTERNS[item.category], color, contrast=0.3)
    ys, xs = np.nonzero(item.cover)
    ramp = np.add.outer(np.arange(size), np.arange(size)) - (ys.mean() + xs.mean())
    light = 1 - 0.12 * np.clip(ramp / (np.ptp(ys) + np.ptp(xs)), -1, 1)
    return np.clip(paint * light.astype(np.float32), 0, 1)


def _paint(
    rng: np.random.Generator,
    size: int,
    pattern: str,
    color: tuple[float, float, float],
    contrast: float = 0.22,
) -> np.ndarray:
    """A pattern between two shades of one colour, [3, size, size] float32.

    Colours come first until the scene is finished: NumPy is slow where its innermost
    loop has three turns.
    """
    hue, saturation, value = color
    shift = rng.uniform(-0.03, 0.03)
    light = _rgb(hue, saturation * 0.85, min(value + contrast / 2, 1.0))
    dark = _rgb(hue + shift, min(saturation * 1.1, 1.0), max(value - contrast / 2, 0))
    mix = _texture(pattern, rng, size)
    light, dark = light[:, None, None], dark[:, None, None]
    return light * mix + dark * (1 - mix)


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    pixel = np.array([[[hue % 1.0 * 360, saturation, value]]], np.float32)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0]


def _random_pattern(rng: np.random.Generator) -> str:
    return str(rng.choice(["stripes", "checks", "dots", "noise", "waves"]))


def _texture(pattern: str, rng: np.random.Generator, size: int) -> np.ndarray:
    """A pattern in [0, 1], [size, size] float32; edges are one pixel soft."""
    angle, period = rng.uniform(0, np.pi), rng.uniform(6.0, 10.0)
    phase_u, phase_v = rng.uniform(0, 2 * np.pi, 2)
    grid = np.arange(size, dtype=np.float32) * np.float32(2 * np.pi / period)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u = np.add.outer(grid * sin, grid * cos) + np.float32(phase_u)
    if pattern == "noise":
        return _smooth_noise(rng, size, size // 4)
    if pattern == "waves":
        return 0.5 + 0.5 * np.sin(u * np.float32(0.8))
    if pattern == "stripes":
        wave = np.sin(u)
    else:
        v = np.add.outer(grid * cos, grid * -sin) + np.float32(phase_v)
        if pattern == "checks":
            wave = 1.5 * np.sin(u * np.float32(0.7)) * np.sin(v * np.float32(0.7))
        else:
            wave = np.cos(u) + np.cos(v) - np.float32(0.7)
    return np.clip(0.5 + wave * np.float32(period / 6), 0, 1)


def _smooth_noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    coarse = rng.random((cells, cells), dtype=np.float32)
    smooth = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth, 0, 1)


def _blend(
    image: np.ndarray, paint: np.ndarray, cover: np.ndarray, shadow: float = 0.2
) -> np.ndarray:
    """Lays paint over an image, with a faint shadow so that it stands off."""
    fallen = cv2.GaussianBlur(np.roll(cover, (1, 1), (0, 1)), (0, 0), 2.0)
    below = image * (1 - shadow * fallen)
    return below + (paint - below) * cover


def _annotation(category: str, mask: np.ndarray) -> dict[str, Any]:
    rle: Any = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {
        "category_id": CATEGORIES[category],
        "bbox": [float(v) for v in coco_mask.toBbox(rle)],
        "area": int(mask.sum()),
        "iscrowd": 0,
        "segmentation": {"size": list(mask.shape), "counts": rle["counts"].decode()},
    }


def _png(image: np.ndarray) -> bytes:
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return data.tobytes()


def _is_finished(marker: Path, parameters: dict[str, int]) -> bool:
    try:
        return json.loads(marker.read_text()) == parameters
    except (FileNotFoundError, json.JSONDecodeError):
        return False
