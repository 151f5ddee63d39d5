"""How well what is known of a mask without the true one finds the bad masks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

BAD_IOU = 0.5  # masks below it are bad
SIGNS = ("score", "click_hit", "box_iou")  # the lower, the worse


def found(signs: Mapping[str, np.ndarray], is_bad: np.ndarray) -> dict[str, Any]:
    """How well each sign, and the best pair of them, finds the bad masks.

    Args:
        signs: Name to float [masks]; NaN where it is not known. Low is suspicious.
        is_bad: bool [masks].

    Returns:
        `count` of bad masks; per sign what `judged` gives; and `lower_of_two`, the
        same with the names `of` the pair whose `lower_of_two` finds more than any sign
        alone, None if no pair does.
    """
    each = {name: judged(values, is_bad) for name, values in signs.items()}
    pairs = [_joined(pair, signs, is_bad) for pair in combinations(signs, 2)]
    alone = max((one["auc"] for one in each.values() if one), default=1.0)
    better = [pair for pair in pairs if pair and pair["auc"] > alone]
    best = max(better, key=lambda pair: pair["auc"], default=None)
    return {"count": int(is_bad.sum()), **each, "lower_of_two": best}


def judged(values: np.ndarray, is_bad: np.ndarray) -> dict[str, Any] | None:
    """How well low values tell bad masks.

    Args:
        values: float [masks]; masks with NaN take no part.
        is_bad: bool [masks].

    Returns:
        `count` of masks that took part; `num_values`, how many different ones there
        are; `auc`; and of `worst_tenth` the share that is bad, `bad_in_worst_tenth`,
        and the share of all bad masks, `found_in_worst_tenth`. None if no mask is
        bad, or all are.
    """
    is_known = ~np.isnan(values)
    values, is_bad = values[is_known], is_bad[is_known]
    auc = area_under_curve(values, is_bad)
    if auc is None:
        return None
    number, caught = worst_tenth(values, is_bad)
    return {
        "count": len(values),
        "num_values": len(np.unique(values)),
        "auc": auc,
        "bad_in_worst_tenth": caught / number,
        "found_in_worst_tenth": caught / int(is_bad.sum()),
    }


def area_under_curve(values: np.ndarray, is_bad: np.ndarray) -> float | None:
    """Area under the ROC curve: how often a bad mask has the lower value of two.

    Args:
        values: float [masks].
        is_bad: bool [masks].

    Returns:
        The share of the pairs of a bad and a good mask in which the bad one is lower;
        an equal pair counts half. None if no mask is bad, or all are.
    """
    num_bad = int(is_bad.sum())
    num_good = len(values) - num_bad
    if not num_bad or not num_good:
        return None
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[group]  # a tie has its mean rank
    above = ranks[~is_bad].sum() - num_good * (num_good + 1) / 2
    return float(above / (num_bad * num_good))


def worst_tenth(values: np.ndarray, is_bad: np.ndarray) -> tuple[int, float]:
    """The tenth of the masks (rounded up) with the lowest values, and the bad in it.

    Args:
        values: float [masks], at least one.
        is_bad: bool [masks].

    Returns:
        Number of masks in the tenth, and of bad ones among them. Where equal values
        lie across its edge, those inside have their mean share of bad ones: the order
        of the masks decides nothing.
    """
    number = -(-len(values) // 10)
    edge = np.sort(values)[number - 1]
    is_below, is_tied = values < edge, values == edge
    left = number - is_below.sum()
    return number, float(is_bad[is_below].sum() + left * is_bad[is_tied].mean())


def _joined(
    pair: tuple[str, str], signs: Mapping[str, np.ndarray], is_bad: np.ndarray
) -> dict[str, Any] | None:
    """What the lower of two signs finds, if it is more than they do on these masks."""
    first, second = (signs[name] for name in pair)
    both = ~np.isnan(first) & ~np.isnan(second)
    first, second, is_bad = first[both], second[both], is_bad[both]
    found = judged(lower_of_two(first, second), is_bad)
    alone = [area_under_curve(values, is_bad) or 0.0 for values in (first, second)]
    if found is None or found["auc"] <= max(alone):
        return None
    return {"of": list(pair), **found}


def lower_of_two(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """For each mask the lower of its places in two orders.

    Args:
        first: float [masks].
        second: float [masks].

    Returns:
        float64 [masks], the share of masks that are no better, by the sign in which
        it is smaller.
    """
    places = [
        np.searchsorted(np.sort(each), each, side="right") for each in (first, second)
    ]
    return np.minimum(*places) / max(1, len(first))
