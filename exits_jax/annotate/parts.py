"""A click beside a mask: the part that it means, as the model sees it."""

from typing import Any

import cv2
import numpy as np

from exits_jax.data import rle


def grown(found: Any, click: tuple[float, float]) -> dict[str, Any] | None:
    """The part that is connected with a pixel at the highest threshold that takes it.

    Args:
        found: A `Prediction`: its logits are cut at that of the clicked pixel.
        click: (x, y) px.

    Returns:
        The part as run lengths; None if the click lies outside the object's box.
    """
    left, top = found.origin
    x, y = round(click[0]) - left, round(click[1]) - top
    height, width = found.logits.shape
    if not (0 <= x < width and 0 <= y < height):
        return None
    above = (found.logits >= found.logits[y, x]).astype(np.uint8)
    _, labels = cv2.connectedComponents(above, connectivity=8)
    part = labels == labels[y, x]
    return rle.encode_part(part, left=left, top=top, image_size=found.item.image_size)
