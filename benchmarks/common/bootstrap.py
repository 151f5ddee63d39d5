"""Intervals of means over objects, with whole images drawn again and again."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from exits_jax.evaluation.iou import EvaluatedObject

NUM_RESAMPLES = 2000
_LIMITS = (2.5, 97.5)  # percent


class Interval(NamedTuple):
    """A figure and the bounds of its 95 % interval; all None without objects."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Resamples:
    """How often each image is drawn, the same for all that is compared."""

    def __init__(self, num_images: int, *, seed: int = 0, count: int = NUM_RESAMPLES):
        """Draws `count` times as many images as there are, with repetition."""
        rng = np.random.default_rng(seed)
        share = np.full(num_images, 1 / num_images)
        drawn = rng.multinomial(num_images, share, size=count)
        plain = np.ones((1, num_images))  # the first row: every image once
        self.times = np.concatenate([plain, drawn]).astype(np.float64)

    def object_means(self, values: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Mean over objects for every draw; the first entry is that of all images.

        Args:
            values: float [objects]; NaN takes no part.
            images: int [objects], the image of each.

        Returns:
            float [1 + draws]; NaN where no object was drawn.
        """
        is_known = ~np.isnan(values)
        values, images = values[is_known], images[is_known]
        size = self.times.shape[1]
        sums = self.times @ np.bincount(images, values, size)
        counts = self.times @ np.bincount(images, minlength=size).astype(np.float64)
        return _ratio(sums, counts)

    def class_means(
        self, values: np.ndarray, images: np.ndarray, classes: np.ndarray
    ) -> np.ndarray:
        """Mean over the means of the classes that were drawn, as `object_means`."""
        means = [
            self.object_means(values[classes == each], images[classes == each])
            for each in np.unique(classes)
        ]
        found = np.array(means).reshape(len(means), len(self.times))
        is_drawn = ~np.isnan(found)
        return _ratio(np.where(is_drawn, found, 0.0).sum(axis=0), is_drawn.sum(axis=0))


def interval(means: np.ndarray) -> Interval:
    """The figure and its bounds from what `Resamples` gives, or a difference of two."""
    if np.isnan(means[0]):
        return Interval(None)
    drawn = means[1:][~np.isnan(means[1:])]
    if not drawn.size:
        return Interval(float(means[0]))
    low, high = np.percentile(drawn, _LIMITS).tolist()
    return Interval(float(means[0]), low, high)


def in_words(found: Interval, *, signed: bool = False) -> str:
    """In percent: "73.1 [71.0, 75.2]"; "-" without a value."""
    if found.value is None:
        return "-"
    show = lambda share: f"{100 * share:{'+' if signed else ''}.1f}"
    if found.low is None or found.high is None:
        return show(found.value)
    return f"{show(found.value)} [{show(found.low)}, {show(found.high)}]"


def ious(objects: Sequence[EvaluatedObject]) -> np.ndarray:
    """IoU of each object."""
    return np.array([item.iou for item in objects], np.float64)


def click_shares(objects: Sequence[EvaluatedObject]) -> np.ndarray:
    """Share of each object's clicks that its mask reaches; NaN where not known."""
    shares = [item.clicks_hit for item in objects]
    return np.array([np.nan if x is None else x for x in shares], np.float64)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.where(below > 0, above / np.maximum(below, 1e-12), np.nan)
