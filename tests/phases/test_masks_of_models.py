"""True masks that a model made are no judge of that model."""

import numpy as np
import pytest

from configs import custom
from exits_jax.data.coco_file import CocoFile
from exits_jax.evaluation import iou
from exits_jax.phases import evaluate
from exits_jax.run.from_config import WALK_ALONE


@pytest.mark.parametrize(
    ("info", "mark", "is_counted"),
    [
        ({"exits_jax": {}}, {"score": 0.9, "by": "accepted"}, True),
        ({"exits_jax": {}}, {"by": "edited"}, False),
        ({"exits_jax": {}}, "a word of others", False),
        ({"year": 2026}, {"score": 0.9}, False),
        ("a word of others", {"score": 0.9}, False),
    ],
)
def test_a_mask_with_a_score_of_ours_is_a_models(info, mark, is_counted):
    parts = {"info": info, "images": [], "categories": []}
    source = CocoFile("some", {**parts, "annotations": [{"id": 7, "exits": mark}]})
    assert (evaluate._by_models(source) == {7}) == is_counted


def _measured(ours: float, walk: float) -> list[evaluate.Measured]:
    square = np.zeros((64, 64), bool)
    square[8:48, 8:48] = True
    box = (8.0, 8.0, 48.0, 48.0)
    item = iou.described(7, 1, square, box, size_by="box")
    methods = {evaluate.OURS: ours, WALK_ALONE: walk, "box as mask": 0.5}
    found = {name: item._replace(iou=value) for name, value in methods.items()}
    return [evaluate.Measured(0, found)]


@pytest.mark.parametrize(("by_models", "is_blamed"), [({7}, False), (set(), True)])
def test_masks_of_the_walk_may_come_closer_to_masks_of_the_walk(
    caplog, by_models, is_blamed
):
    config = custom.get_config("cpu")
    with caplog.at_level("INFO", logger="exits_jax"):
        measured = _measured(0.9, 0.97)
        found = evaluate._summaries(measured)
        evaluate._judge_measured(config, measured, found, {}, 0.0, by_models)
    assert ("90.0 against 97.0 (walk alone)" in caplog.text) == is_blamed
    assert ("1 of these 1 true masks were made by a model" in caplog.text) != is_blamed
