"""Scores of pseudo masks: beside their IoU, and what they are worth in words."""

from collections.abc import Iterable, Mapping
from typing import Any

from exits_jax.data.coco_file import ById, Records
from exits_jax.data.records import Instance
from exits_jax.evaluation.bad_masks import SIGNS
from exits_jax.evaluation.reliability import Scored

NAMES = dict(zip(SIGNS, ("score", "clicks hit", "bounding box"), strict=True))


def scored(made: Records, judged: Iterable[tuple[Instance, float]]) -> list[Scored]:
    """What the records of the masks say of objects whose IoU is known.

    Args:
        made: Of `pseudo_masks.json`.
        judged: Every object with a true mask, and its IoU.
    """
    has_mask, remarks = ById(made, "segmentation"), ById(made, "exits")
    found = []
    for item, iou in judged:
        identity = item.annotation_id
        record = remarks.get(identity) if identity in has_mask else None
        found.append(Scored.of_record(item.image_id, iou, record))
    return found


def scores_in_words(found: Mapping[str, Any]) -> str:
    """What `reliability` found, in at most six lines."""
    table, count = found["table"], found["count"]
    if not table:
        return "no object has a mask: there is no score to compare with the IoU"
    lines = [
        f"what scores (mean probability of a mask's pixels) are worth, over {count} "
        "masks with true ones:"
    ]
    if len(table) > 1:
        low, high = (
            f"the {each['count']} {name}: mean {_percent(each['score'])}, true IoU "
            f"{_percent(each['iou'])}"
            for name, each in (("lowest scores", table[0]), ("highest", table[-1]))
        )
        lines.append(f"{low}; {high}")
    lines.append(_error_in_words(found))
    lines += _bad_in_words(found["bad"], count)
    if missing := found["without_mask"]:
        lines.append(
            f"without a mask, hence without a score: {_counted(missing, 'object')}"
        )
    return "\n  ".join(lines)


def _error_in_words(found: Mapping[str, Any]) -> str:
    off = f"scores are {100 * found['calibration_error']:.1f} points off the true IoU"
    if found["calibrated_error"] is None:
        return off
    left = f"{100 * found['calibrated_error']:.1f}"
    return f"{off}; read off the curve in evaluation.json, {left} (held-out images)"


def _bad_in_words(bad: Mapping[str, Any], count: int) -> list[str]:
    below = f"bad (IoU below {100 * bad['iou_below']:.0f} %)"
    by_score = bad["score"]
    if by_score is None:
        return [f"{'every' if bad['count'] else 'no'} mask is {below}"]
    shares, useless = [], []
    for sign, name in NAMES.items():
        if (judged := bad[sign]) is None:
            continue
        if judged["num_values"] == 1:
            useless.append(name)
        else:
            shares.append(f"{name} {_percent(judged['auc'])}")
    if both := bad["lower_of_two"]:
        first, second = (NAMES[sign] for sign in both["of"])
        shares.append(f"the lower of {first} and {second} {_percent(both['auc'])}")
    says_nothing = f"; alike for all: {', '.join(useless)}" if useless else ""
    caught = by_score["bad_in_worst_tenth"]
    return [
        f"{below}: {_counted(bad['count'], 'mask')}, {_percent(bad['count'] / count)}; "
        f"of the tenth with the lowest scores, {_percent(caught)}",
        "pairs of bad and good told apart (chance: 50 %): "
        f"{', '.join(shares) or 'none'}{says_nothing}",
    ]


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
