"""Pixels that objects of one class claim together: the masks of an image in layers.

An object in front hides what is behind it, and its clicks lie on what is seen of it. A
pixel in several masks therefore goes to the best claim: the logit, and for each click
of the one inside the mask of the other a bonus. Among classes nothing is taken away:
annotators draw what is worn or held, or stands on a table, into both.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from exits_jax.data.table import Instances
from exits_jax.labeling.mask_quality import click_tolerance
from exits_jax.labeling.prediction import Prediction

CLICK_BONUS = 2.0  # logits; 1 to 6 are as good to 0.1 points
LOST = -np.inf  # logit of a pixel that went to another object


class Rivals:
    """Which objects may claim the same pixels: one image, one class, boxes overlap."""

    def __init__(self, objects: Instances):
        """Sorts the objects of a split by image."""
        self._objects = objects
        self._order = np.argsort(objects.image, kind="stable")
        self._images = np.asarray(objects.image)[self._order]

    def of(self, row: int) -> np.ndarray:
        """The rows of an object's rivals, int, in the order of the split."""
        objects = self._objects
        image = objects.image[row]
        first, last = (
            np.searchsorted(self._images, image, side) for side in ("left", "right")
        )
        others = self._order[first:last]
        others = others[objects.category[others] == objects.category[row]]
        box, boxes = objects.boxes[row], objects.boxes[others]
        shared = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
        return others[(shared > 0).all(axis=1) & (others != row)]


def in_layers(mine: Prediction, rivals: Sequence[Prediction]) -> Prediction:
    """A mask without the pixels that its rivals have a better claim to.

    Masks count as they are before any pixel is taken from them, so the order of the
    objects does not matter. Pixels within the tolerance of the object's own clicks
    stay, as do those to which the claims are equal.

    Args:
        mine: The object.
        rivals: Other objects of the image.

    Returns:
        The same object with the logit `LOST` where a rival has the better claim; as it
        was, if all of its mask went.
    """
    lost = np.zeros(mine.part.shape, bool)
    for theirs in rivals:
        here, there = _shared(mine, theirs)
        bonus = CLICK_BONUS * (
            _clicks_inside(theirs, mine) - _clicks_inside(mine, theirs)
        )
        is_better = theirs.logits[there] + bonus > mine.logits[here]
        lost[here] |= theirs.part[there] & is_better
    lost &= mine.part
    _keep_clicks(lost, mine)
    if not lost.any() or not (mine.part & ~lost).any():
        return mine
    return dataclasses.replace(
        mine, logits=np.where(lost, np.float32(LOST), mine.logits)
    )


def _shared(
    one: Prediction, other: Prediction
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The pixels that both have logits of, as rows and columns of each."""
    ends = [
        np.add(each.origin, each.part.shape[::-1]) for each in (one, other)
    ]  # (right, bottom)
    start = np.maximum(one.origin, other.origin)
    stop = np.maximum(np.minimum(*ends), start)

    def slices(each: Prediction) -> tuple[slice, slice]:
        (left, top), (right, bottom) = start - each.origin, stop - each.origin
        return slice(top, bottom), slice(left, right)

    return slices(one), slices(other)


def _clicks_inside(one: Prediction, other: Prediction) -> int:
    """How many clicks of an object lie on pixels of another's mask."""
    if one.item.extreme_points is None:
        return 0
    height, width = other.part.shape
    x, y = (np.rint(one.item.extreme_points) - other.origin).astype(int).T
    is_there = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return int(other.part[y[is_there], x[is_there]].sum())


def _keep_clicks(lost: np.ndarray, mine: Prediction) -> None:
    """Takes back, in place, what lies within the tolerance of the object's clicks."""
    if mine.item.extreme_points is None:
        return
    tolerance = click_tolerance(mine.item.box)
    ys, xs = np.nonzero(lost)
    for x, y in np.asarray(mine.item.extreme_points, np.float64) - mine.origin:
        is_near = np.hypot(xs - x, ys - y) <= tolerance
        lost[ys[is_near], xs[is_near]] = False
