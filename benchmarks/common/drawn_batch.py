"""Batches of drawn crops, with the fields of `exits_jax/data/samples.py`."""

import cv2
import numpy as np


def drawn_batch(rows: int, crop_size: int, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Blobs of colour with a box in them and four points on its sides.

    Boxes are between 46 and 400 px wide in their images, drawn evenly on a logarithmic
    scale: two thirds of them are large objects.

    Args:
        rows: Number of crops.
        crop_size: Their side, px.
        seed: Of all that is drawn.
    """
    rng = np.random.default_rng(seed)
    image = np.stack([_blobs(rng, crop_size) for _ in range(rows)])
    brightness = rng.uniform(0.8, 1.2, (rows, 1, 1, 1))
    student = (image * brightness).clip(0, 255).astype(np.uint8)
    low = rng.uniform(0.1, 0.3, (rows, 2)) * crop_size
    high = rng.uniform(0.7, 0.9, (rows, 2)) * crop_size
    box = np.concatenate([low, high], axis=1).round()
    x0, y0, x1, y1 = box.T
    along = lambda first, last: first + rng.uniform(0.2, 0.8, rows) * (last - first)
    top, left = (along(x0, x1), y0 + 0.5), (x0 + 0.5, along(y0, y1))
    bottom, right = (along(x0, x1), y1 - 0.5), (x1 - 0.5, along(y0, y1))
    points = np.stack([np.stack(p, axis=1) for p in (top, left, bottom, right)], axis=1)
    side = np.exp(rng.uniform(np.log(46), np.log(400), rows))
    whole = np.array([0, 0, crop_size, crop_size])
    return {
        "image": image,
        "student_image": student,
        "extreme_points": points.astype(np.float32),
        "has_points": np.ones(rows, bool),
        "box": box.astype(np.float32),
        "valid_region": np.tile(whole, (rows, 1)).astype(np.float32),
        "box_area": (side**2).astype(np.float32),
        "window": np.tile(whole, (rows, 1)).astype(np.int32),
        "seed": rng.integers(2**32, size=rows, dtype=np.uint32),
        "index": np.arange(rows, dtype=np.int32),
        "valid": np.ones(rows, bool),
    }


def _blobs(rng: np.random.Generator, size: int) -> np.ndarray:
    """Smooth colours and a little noise, uint8 [size, size, 3]."""
    coarse = rng.uniform(0, 255, (6, 6, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    noisy = smooth + rng.normal(0, 4, (size, size, 3))
    return noisy.clip(0, 255).astype(np.uint8)
