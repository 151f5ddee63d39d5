"""Masks and clicks drawn over their image."""

from collections.abc import Sequence

import cv2
import numpy as np

from exits_jax.labeling.prediction import Prediction

_COLOURS = (
    (255, 122, 24),
    (38, 132, 255),
    (46, 184, 92),
    (214, 51, 132),
    (124, 77, 255),
)
_TINT = 0.35  # share of the colour in the mask
_LIGHT, _DARK = (255, 255, 255), (20, 22, 26)


def draw_overlay(image: np.ndarray, found: Sequence[Prediction]) -> np.ndarray:
    """The image with each mask tinted and outlined in two tones, and the clicks.

    Args:
        image: uint8 [height, width, 3].
        found: Objects of it.

    Returns:
        uint8 [height, width, 3].
    """
    drawn = image.copy()
    line = max(1, round(max(image.shape) / 500))  # px
    for number, each in enumerate(found):
        colour, mask = _COLOURS[number % len(_COLOURS)], each.mask
        tinted = (1 - _TINT) * drawn[mask] + _TINT * np.array(colour)
        drawn[mask] = tinted.round().astype(np.uint8)
        outlines, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(drawn, outlines, -1, _LIGHT, 3 * line, cv2.LINE_AA)
        cv2.drawContours(drawn, outlines, -1, colour, line, cv2.LINE_AA)
    for each in found:
        _draw_clicks(drawn, each, line)
    return drawn


def _draw_clicks(drawn: np.ndarray, found: Prediction, line: int) -> None:
    """A dot with a ring at each click, or the box where there are none."""
    points = found.item.extreme_points
    if points is None:
        x0, y0, x1, y1 = (round(edge) for edge in found.item.box)
        corners = (x0, y0), (x1 - 1, y1 - 1)
        cv2.rectangle(drawn, *corners, _DARK, 2 * line)
        cv2.rectangle(drawn, *corners, _LIGHT, line)
        return
    for x, y in points.round().astype(int).tolist():
        cv2.circle(drawn, (x, y), 4 * line, _DARK, -1, cv2.LINE_AA)
        cv2.circle(drawn, (x, y), 3 * line, _LIGHT, -1, cv2.LINE_AA)
