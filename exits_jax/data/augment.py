"""Random changes of a training sample; the generator is always an argument.

A flip changes both views and their geometry. The photometric change is for the student
view only, so that the similarity network and the teacher see the clean crop.
"""

from typing import NamedTuple

import cv2
import numpy as np

from exits_jax.batch import Batch

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


class Changes(NamedTuple):
    """The photometric change of one sample, as drawn."""

    order: list[int]  # of brightness, contrast, saturation and hue, numbered 0 to 3
    amounts: list[float]  # by those numbers; 0 changes nothing
    is_grey: bool
    blur_sigma: float  # crop px; 0: no blur


NO_CHANGES = Changes([0, 1, 2, 3], [0.0] * 4, is_grey=False, blur_sigma=0.0)


def draw_changes(rng: np.random.Generator, options: Photometric) -> Changes:
    """Draws what happens to the student's view of a sample.

    The same numbers are drawn whatever happens, so one rate does not move the draw of
    another.
    """
    jitter, grey, blur = (rng.random(3) < _rates(options)).tolist()
    order = rng.permutation(4).tolist()
    amounts = rng.uniform(-1.0, 1.0, size=4).tolist()
    sigma = float(rng.uniform(*options.blur_sigma))
    reaches = (options.brightness, options.contrast, options.saturation, options.hue)
    return Changes(
        order,
        [reach * a if jitter else 0.0 for reach, a in zip(reaches, amounts)],
        is_grey=grey,
        blur_sigma=sigma if blur else 0.0,
    )


def apply_changes(image: np.ndarray, changes: Changes) -> np.ndarray:
    """Jitters colours in the order drawn, greys and blurs.

    Args:
        image: uint8 [height, width, 3] RGB; left as it is.
        changes: What to do.

    Returns:
        uint8 [height, width, 3]; the input itself when nothing applies.
    """
    for kind in changes.order:
        if changes.amounts[kind]:
            image = _JITTERS[kind](image, changes.amounts[kind])
    if changes.is_grey:
        image = cv2.cvtColor(
            cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB
        )
    if changes.blur_sigma > 0:
        sigma = changes.blur_sigma
        image = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return image


def change_arrays(changes: Changes, options: Photometric) -> Batch:
    """The change as arrays of fixed shape, for `ops/photometric.py` to apply.

    Returns:
        jitter_order int32 [4] and jitter_amounts float32 [4] as in `Changes`, is_grey
        bool, and blur_kernel float32 [t] with t the same for all samples.
    """
    num_weights = _blur_reach(options.blur_sigma[1]) + 1
    return {
        "jitter_order": np.array(changes.order, np.int32),
        "jitter_amounts": np.array(changes.amounts, np.float32),
        "is_grey": np.array(changes.is_grey),
        "blur_kernel": blur_kernel(changes.blur_sigma, num_weights),
    }


def blur_kernel(sigma: float, num_weights: int) -> np.ndarray:
    """Weights of OpenCV's Gaussian blur of bytes, from the centre outwards.

    They are whole numbers of 1/256 that sum to one, rounded from the edge inwards so
    that the error of one weight passes to the next.

    Args:
        sigma: Standard deviation, px; 0 for no blur.
        num_weights: Length of the result; beyond the kernel's own reach it is 0.

    Returns:
        float32 [num_weights], in units of 1/256.
    """
    weights = np.zeros(num_weights, np.float32)
    reach = _blur_reach(sigma)
    if sigma > 0:
        exact = cv2.getGaussianKernel(2 * reach + 1, sigma)[:reach, 0]
        sums = np.rint(np.cumsum(256 * exact))
        weights[reach:0:-1] = np.diff(sums, prepend=0)
    weights[0] = 256 - 2 * weights[1:].sum()
    return weights


def flip_sample(sample: Batch) -> Batch:
    """Mirrors a sample left to right, images and geometry together.

    Points and boxes in crop px move from x to size - x. The left point becomes the
    right one, so the order stays top, left, bottom, right. Flipping twice gives the
    sample back.
    """
    size = sample["image"].shape[1]
    flipped = sample.copy()
    for name in ("image", "student_image", "stored_walk", "stored_mask"):
        if name in sample:
            flipped[name] = cv2.flip(sample[name], 1)
    for name in ("box", "valid_region", "label_region"):
        if name not in sample:
            continue
        x0, y0, x1, y1 = sample[name]
        flipped[name] = np.array([size - x1, y0, size - x0, y1], np.float32)
    if sample["has_points"]:  # absent points are zeros and stay zeros
        points = sample["extreme_points"][_FLIPPED_ORDER]
        points[:, 0] = size - points[:, 0]
        flipped["extreme_points"] = points
    return flipped


def _blur_reach(sigma: float) -> int:
    """Half the size of the kernel that OpenCV takes for bytes."""
    return (round(6 * sigma + 1) | 1) // 2


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


_JITTERS = (_brightness, _contrast, _saturation, _hue)
