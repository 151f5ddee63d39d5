"""What the score of a mask says of its IoU, on objects whose true masks are known.

A reliability table (mean score and mean IoU of masks with like scores), and the score
turned into the IoU to expect: the non-decreasing function with the least squares, by
pooling adjacent violators, judged on images that it was not fitted to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from exits_jax.evaluation import bad_masks

NUM_BINS = 10
MIN_COUNT = 20  # masks per bin, while there are enough: a mean of fewer says little


class Scored(NamedTuple):
    """One object with a true mask, and what is said of its mask without that."""

    image_id: int | str
    iou: float  # with the true mask; 0 without a mask
    score: float | None  # mean probability of the mask's pixels; None: no mask
    click_hit: float | None = None  # share of its clicks reached; None: no clicks
    box_iou: float | None = None  # of the mask's own box with the annotated one

    @classmethod
    def of_record(
        cls, image_id: int | str, iou: float, record: dict[str, Any] | None
    ) -> Scored:
        """From `exits` of a record of `pseudo_masks.json`; None where there is none."""
        if record is None:
            return cls(image_id, iou, None)
        hits = record.get("click_hit")
        share = float(np.mean(hits)) if hits else None
        return cls(image_id, iou, record.get("score"), share, record.get("box_iou"))


class Curve(NamedTuple):
    """A non-decreasing function: straight between its points, level beyond them."""

    scores: np.ndarray  # float64 [points], ascending
    ious: np.ndarray  # float64 [points], the mean IoU to expect there

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """The IoU to expect, float64 [masks], from the scores [masks]."""
        return np.interp(scores, self.scores, self.ious)


def reliability(
    objects: Sequence[Scored], *, bad_iou: float | int = bad_masks.BAD_IOU
) -> dict[str, Any]:
    """All that is known of the scores, as `evaluation.json` has it.

    Args:
        objects: Every object with a true mask. Those without a score are counted, and
            take no part in anything else.
        bad_iou: Masks below it are bad.

    Returns:
        `count` and `without_mask`; `mean_score` and `mean_iou`; `table`, see
        `reliability_table`; `calibration_error` of the score as it is; `calibration`,
        the points of the `Curve` fitted to all masks; `calibrated_error`, that of
        curves fitted to the other half of the images (None with one image); `bad`,
        with `iou_below` and what `bad_masks.found` gives. Means and errors are None
        without any mask.
    """
    found = [item for item in objects if item.score is not None]
    columns = {
        name: np.array([getattr(item, name) for item in found], np.float64)
        for name in ("iou", *bad_masks.SIGNS)  # None becomes NaN
    }
    scores, ious = columns["score"], columns["iou"]
    expected = held_out(scores, ious, [item.image_id for item in found])
    curve = fit(scores, ious)
    known = {name: columns[name] for name in bad_masks.SIGNS}
    return {
        "count": len(found),
        "without_mask": len(objects) - len(found),
        "mean_score": _mean(scores),
        "mean_iou": _mean(ious),
        "table": reliability_table(scores, ious),
        "calibration_error": calibration_error(scores, ious),
        "calibration": {name: list(map(float, x)) for name, x in zip(_CURVE, curve)},
        "calibrated_error": (
            None if expected is None else calibration_error(expected, ious)
        ),
        "bad": {"iou_below": bad_iou, **bad_masks.found(known, ious < bad_iou)},
    }


def reliability_table(scores: np.ndarray, ious: np.ndarray) -> list[dict[str, Any]]:
    """Masks with like scores together, lowest scores first.

    Args:
        scores: float [masks].
        ious: float [masks].

    Returns:
        Per bin its mean `score`, mean `iou` and `count`. There are at most ten, fewer
        if they would hold fewer than 20 masks; equal counts, except that masks of one
        score share a bin.
    """
    return [
        {
            "score": float(scores[rows].mean()),
            "iou": float(ious[rows].mean()),
            "count": len(rows),
        }
        for rows in _bins(scores)
    ]


def calibration_error(scores: np.ndarray, ious: np.ndarray) -> float | None:
    """Expected calibration error: how far mean score and mean IoU of a bin differ.

    Args:
        scores: float [masks], or the IoU that is expected of each.
        ious: float [masks].

    Returns:
        The mean over the bins of `reliability_table`, by their counts; None without
        masks.
    """
    table = reliability_table(scores, ious)
    apart = [each["count"] * abs(each["score"] - each["iou"]) for each in table]
    return sum(apart) / len(scores) if table else None


def fit(scores: np.ndarray, ious: np.ndarray) -> Curve:
    """The non-decreasing function of the score that is nearest to the IoU.

    Args:
        scores: float [masks].
        ious: float [masks].

    Returns:
        Level pieces, each the mean of the masks it spans, joined by straight lines.
    """
    at, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(group, ious, len(at)) / counts
    pieces: list[tuple[float, float, float, int]] = []  # first, last, mean, count
    for score, mean, count in zip(at.tolist(), means.tolist(), counts.tolist()):
        piece = (score, score, mean, count)
        while pieces and pieces[-1][2] >= piece[2]:
            piece = _pooled(pieces.pop(), piece)
        pieces.append(piece)
    points = [
        (score, mean)
        for first, last, mean, _ in pieces
        for score in dict.fromkeys((first, last))
    ]
    return Curve(*np.array(points, np.float64).reshape(-1, 2).T)


def held_out(
    scores: np.ndarray, ious: np.ndarray, image_ids: Sequence[int | str]
) -> np.ndarray | None:
    """The IoU to expect of each mask, from images that it is not on.

    Args:
        scores: float [masks].
        ious: float [masks].
        image_ids: [masks]; images are halved by a fixed draw.

    Returns:
        float [masks]; None with fewer than two images.
    """
    numbers = {image: k for k, image in enumerate(dict.fromkeys(image_ids))}
    if len(numbers) < 2:
        return None
    drawn = np.random.default_rng(0).permutation(len(numbers)) < len(numbers) // 2
    is_first = drawn[[numbers[image] for image in image_ids]]
    expected = np.empty(len(scores))
    for half in (is_first, ~is_first):
        expected[half] = fit(scores[~half], ious[~half])(scores[half])
    return expected


def _bins(values: np.ndarray) -> list[np.ndarray]:
    """Rows of like values, ascending; equal values share a bin."""
    if not values.size:
        return []
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    number = min(NUM_BINS, max(1, values.size // MIN_COUNT))
    ends = np.arange(1, number + 1) * values.size // number
    ends = np.unique(np.searchsorted(ordered, ordered[ends - 1], side="right"))
    return np.split(order, ends[:-1])


def _pooled(
    before: tuple[float, float, float, int], after: tuple[float, float, float, int]
) -> tuple[float, float, float, int]:
    count = before[3] + after[3]
    mean = (before[3] * before[2] + after[3] * after[2]) / count
    return before[0], after[1], mean, count


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


_CURVE = ("score", "iou")
