"""Random changes of a training sample; the generator is always an argument.

A flip changes both views and their geometry. The photometric change is for the student
view only, so that the similarity network and the teacher see the clean crop.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np

# Luma of ITU-R 601, what "grey" means in Pillow, OpenCV and torchvision alike.
_LUMA = np.array([0.299, 0.587, 0.114])

# Left and right change places: top, left, bottom, right -> top, right, bottom, left.
_FLIPPED_ORDER = [0, 3, 2, 1]


class Photometric(NamedTuple):
    """Rates and ranges of the photometric change, the ones of the baseline."""

    jitter_rate: float = 0.5  # probability of the colour jitter
    brightness: float = 0.4  # factor from [1 - b, 1 + b]
    contrast: float = 0.4  # factor from [1 - c, 1 + c]
    saturation: float = 0.2  # factor from [1 - s, 1 + s]
    hue: float = 0.1  # shift from [-h, h], in turns of the colour circle
    grey_rate: float = 0.2  # probability of three equal channels
    blur_rate: float = 0.5  # probability of the Gaussian blur
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # its standard deviation, crop px
    strength: float = 1.0  # multiplies the three rates; 0 changes nothing


def photometric(
    image: np.ndarray,
    rng: np.random.Generator,
    options: Photometric | None = None,
) -> np.ndarray:
    """Jitters colours, greys and blurs, each with its own probability.

    The jitter takes brightness, contrast, saturation and hue in random order. The same
    numbers are drawn whatever happens, so one rate does not move the draw of another.

    Args:
        image: uint8 [height, width, 3] RGB; left as it is.
        rng: Source of the draw.
        options: Rates and ranges; the defaults of `Photometric` when None.

    Returns:
        uint8 [height, width, 3]; the input itself when nothing applies.
    """
    options = options or Photometric()
    jitter, grey, blur = (rng.random(3) < _rates(options)).tolist()
    order = rng.permutation(4).tolist()
    amounts = rng.uniform(-1.0, 1.0, size=4).tolist()
    sigma = float(rng.uniform(*options.blur_sigma))
    if jitter:
        for kind in order:
            change, reach = (
                (_brightness, options.brightness),
                (_contrast, options.contrast),
                (_saturation, options.saturation),
                (_hue, options.hue),
            )[kind]
            if reach > 0:
                image = change(image, reach * amounts[kind])
    if grey:
        image = cv2.cvtColor(
            cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB
        )
    if blur and sigma > 0:
        image = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return image


def flip_sample(sample: dict[str, Any]) -> dict[str, Any]:
    """Mirrors a sample left to right, images and geometry together.

    Points and boxes in crop px move from x to size - x. The left point becomes the
    right one, so the order stays top, left, bottom, right. Flipping twice gives the
    sample back.
    """
    size = sample["image"].shape[1]
    flipped = dict(sample)
    for name in ("image", "student_image"):
        if name in sample:
            flipped[name] = cv2.flip(sample[name], 1)
    for name in ("box", "valid_region"):
        x0, y0, x1, y1 = sample[name]
        flipped[name] = np.array([size - x1, y0, size - x0, y1], np.float32)
    if sample["has_points"]:  # absent points are zeros and stay zeros
        points = sample["extreme_points"][_FLIPPED_ORDER]
        points[:, 0] = size - points[:, 0]
        flipped["extreme_points"] = points
    return flipped


def _rates(options: Photometric) -> np.ndarray:
    rates = np.array([options.jitter_rate, options.grey_rate, options.blur_rate])
    return rates * options.strength


def _brightness(image: np.ndarray, amount: float) -> np.ndarray:
    """Moves away from black or towards it: factor 1 + amount."""
    return _blend(image, 0.0, 1.0 + amount)


def _contrast(image: np.ndarray, amount: float) -> np.ndarray:
    """Moves away from the mean grey of the image or towards it."""
    mean_grey = float(np.dot(_LUMA, cv2.mean(image)[:3]))
    return _blend(image, mean_grey, 1.0 + amount)


def _saturation(image: np.ndarray, amount: float) -> np.ndarray:
    """Moves each pixel away from its own grey or towards it."""
    factor = 1.0 + amount
    mix = factor * np.eye(3) + (1.0 - factor) * _LUMA  # rows make R, G, B
    return cv2.transform(image, mix)


def _hue(image: np.ndarray, amount: float) -> np.ndarray:
    """Turns the colour circle by `amount` turns, in steps of 1/256."""
    steps = round(256 * amount) % 256
    if steps == 0:
        return image
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(steps)  # wraps like the circle
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def _blend(image: np.ndarray, value: float, factor: float) -> np.ndarray:
    """Mixes factor * image + (1 - factor) * value by a table of the 256 levels."""
    levels = factor * np.arange(256) + (1.0 - factor) * value
    return cv2.LUT(image, np.clip(np.rint(levels), 0, 255).astype(np.uint8))
