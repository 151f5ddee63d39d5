"""From an image to a square crop around one object, and back again.

A crop shows the content of a `Window`, stretched to a square. Two frames meet here:

* image coordinates count pixels, so the centre of pixel (0, 0) is the point (0, 0);
* crop coordinates are continuous, so that centre is (0.5, 0.5) and the edges of a crop
  of `size` pixels are 0 and `size`.

Boxes are edges in both frames and need no half pixel. The window rule is the one of the
baseline that the paper builds on (Section 4.1).
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

Box = Sequence[float | int] | np.ndarray
Margins = tuple[float, float, float, float]


class Window(NamedTuple):
    """A rectangle of whole image pixels, right and bottom exclusive.

    It may leave the image; what lies there is the content of the opposite border.
    """

    x0: int
    y0: int
    x1: int
    y1: int


def train_margins(rng: np.random.Generator, limit: float) -> Margins:
    """Draws how far the window of a training crop reaches past each side of the box.

    Per axis one uniform gate is split between the two sides, so that together they add
    at most `limit` half boxes.

    Args:
        rng: Source of the draw.
        limit: Largest margin, in half extents of the box.

    Returns:
        Margins left, top, right, bottom, in half extents of the box.
    """
    left, top, right, bottom = rng.uniform(0.0, limit, size=4).tolist()
    gate_x, gate_y = rng.random(2).tolist()
    return (
        left * gate_x,
        top * gate_y,
        right * (1.0 - gate_x),
        bottom * (1.0 - gate_y),
    )


def test_margins(rate: float) -> Margins:
    """The same margin on all four sides: half of `rate`, in half extents of the box."""
    side = 0.5 * rate
    return side, side, side, side


def crop_window(box: Box, margins: Margins) -> Window:
    """The whole pixels that a crop of a box with margins shows.

    Args:
        box: xyxy px of the image, right and bottom exclusive.
        margins: Left, top, right, bottom, in half extents of the box.

    Raises:
        ValueError: If the box is empty or not finite.
    """
    x0, y0, x1, y1 = (float(edge) for edge in box)
    if not (math.isfinite(x0 + y0 + x1 + y1) and x1 > x0 and y1 > y0):
        raise ValueError(
            f"A crop of box ({x0}, {y0}, {x1}, {y1}) is empty. Boxes are "
            "(left, top, right, bottom) in pixels with right > left, bottom > top."
        )
    left, top, right, bottom = margins
    center_x, center_y = 0.5 * (x0 + x1), 0.5 * (y0 + y1)
    return Window(
        x0=math.floor(center_x - (center_x - x0) * (1.0 + left)),
        y0=math.floor(center_y - (center_y - y0) * (1.0 + top)),
        x1=math.ceil(center_x + (x1 - center_x) * (1.0 + right) + 1.0),
        y1=math.ceil(center_y + (y1 - center_y) * (1.0 + bottom) + 1.0),
    )


def reduction(window: Window, image_size: tuple[int, int], size: int) -> int:
    """How far an image may be reduced before a crop would have to enlarge it.

    Args:
        window: What the crop shows, in image px.
        image_size: (height, width) of the image, px.
        size: Side of the crop, px.

    Returns:
        8, 4, 2 or 1; 1 also where the window leaves the image, whose borders may not
        lie between pixels.
    """
    height, width = image_size
    x0, y0, x1, y1 = window
    if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
        return 1
    shorter = min(x1 - x0, y1 - y0)
    return next((by for by in (8, 4, 2) if shorter >= by * size), 1)


def crop_image(
    image: np.ndarray, window: Window, size: int, *, reduced_by: int = 1
) -> np.ndarray:
    """Cuts the window out of an image and stretches it to a square.

    Pixels outside the image come from its opposite border: a constant border would be
    an edge that the colour term of the CRF follows. Only the window is ever resized.

    Args:
        image: uint8 [height, width, 3].
        window: What to show, in image px.
        size: Side of the crop, px.
        reduced_by: What the sides of `image` were divided by, see `reduction`.

    Returns:
        uint8 [size, size, 3], bicubic with anti-aliasing; the aspect is not kept.
    """
    if reduced_by > 1:
        edges = [edge / reduced_by for edge in window]
        x0, y0 = math.floor(edges[0]), math.floor(edges[1])
        patch = image[y0 : math.ceil(edges[3]), x0 : math.ceil(edges[2])]
        part = (edges[0] - x0, edges[1] - y0, edges[2] - x0, edges[3] - y0)
        whole = Image.fromarray(np.ascontiguousarray(patch))
        bicubic = Image.Resampling.BICUBIC
        return np.asarray(whole.resize((size, size), bicubic, box=part))
    patch = Image.fromarray(_wrapped(image, window))
    if patch.size != (size, size):
        patch = patch.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(patch)


def points_to_crop(points: np.ndarray, window: Window, size: int) -> np.ndarray:
    """Carries points [n, 2] from image pixel indices to float32 crop coordinates."""
    origin, extent = _frame(window)
    scaled = (np.asarray(points, np.float64) + 0.5 - origin) * (size / extent)
    return scaled.astype(np.float32)


def box_to_crop(box: Box, window: Window, size: int) -> np.ndarray:
    """Carries the edges of an xyxy box from image px to float32 [4] crop px."""
    origin, extent = _frame(window)
    corners = np.asarray(box, np.float64).reshape(2, 2)
    return ((corners - origin) * (size / extent)).astype(np.float32).reshape(4)


def valid_region(image_size: tuple[int, int], window: Window, size: int) -> np.ndarray:
    """The part of a crop that is image and not wrapped border.

    Args:
        image_size: (height, width) of the image, px.
        window: What the crop shows, in image px.
        size: Side of the crop, px.

    Returns:
        float32 [4], xyxy crop px within [0, size].
    """
    height, width = image_size
    return np.clip(box_to_crop((0, 0, width, height), window, size), 0, size)


def logits_in_box(
    logits: np.ndarray, window: Window, box: Box, image_size: tuple[int, int]
) -> tuple[np.ndarray, tuple[int, int]]:
    """Puts the logits of a crop back where the crop came from (Section 3.3).

    Args:
        logits: float32 [h, w], a grid that spans the whole crop; any size.
        window: What the crop shows, in image px.
        box: xyxy image px. Pixels that it touches are kept: rows floor(top) to
            ceil(bottom) - 1, and columns alike.
        image_size: (height, width) of the image, px.

    Returns:
        The logits of those pixels of the box that lie in window and image, bilinear,
        float32 [box height, box width], and the (left, top) of the first of them;
        [0, 0] where there are none.
    """
    height, width = image_size
    x0 = max(window.x0, math.floor(box[0]), 0)
    y0 = max(window.y0, math.floor(box[1]), 0)
    x1 = min(window.x1, math.ceil(box[2]), width)
    y1 = min(window.y1, math.ceil(box[3]), height)
    if x1 <= x0 or y1 <= y0:
        return np.zeros((0, 0), np.float32), (x0, y0)
    stretched = cv2.resize(
        np.ascontiguousarray(logits, np.float32),
        (window.x1 - window.x0, window.y1 - window.y0),
        interpolation=cv2.INTER_LINEAR,
    )
    rows = slice(y0 - window.y0, y1 - window.y0)
    columns = slice(x0 - window.x0, x1 - window.x0)
    return np.ascontiguousarray(stretched[rows, columns]), (x0, y0)


def _frame(window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Origin and extent of a window, (x, y) image px."""
    origin = np.array([window.x0, window.y0], np.float64)
    return origin, np.array([window.x1, window.y1], np.float64) - origin


def _wrapped(image: np.ndarray, window: Window) -> np.ndarray:
    """The pixels of a window, taken from the image as if it were tiled."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = window
    if x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height:
        return np.ascontiguousarray(image[y0:y1, x0:x1])
    patch = np.empty((y1 - y0, x1 - x0, *image.shape[2:]), image.dtype)
    columns = list(_runs(x0, x1, width))
    for to_y, from_y in _runs(y0, y1, height):
        for to_x, from_x in columns:
            patch[to_y, to_x] = image[from_y, from_x]
    return patch


def _runs(start: int, stop: int, period: int) -> Iterator[tuple[slice, slice]]:
    """Splits a range into runs (place in the range, place in the period)."""
    position = start
    while position < stop:
        source = position % period
        length = min(period - source, stop - position)
        place = position - start
        yield slice(place, place + length), slice(source, source + length)
        position += length
