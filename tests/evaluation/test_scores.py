import numpy as np
import pytest

from exits_jax.data.coco_file import Records
from exits_jax.data.records import Instance
from exits_jax.evaluation.reliability import Scored, reliability
from exits_jax.evaluation.scores import scored, scores_in_words
from tests.evaluation.test_reliability import objects, rising


def item(annotation_id):
    box = (0.0, 0.0, 4.0, 4.0)
    return Instance(annotation_id, 5, 1, "a.png", (9, 9), None, box, False, ())


def said(found):
    return scores_in_words(reliability(found)).splitlines()


def test_scores_are_read_beside_the_iou():
    remarks = {"score": 0.9, "click_hit": [1, 1, 0, 0], "box_iou": 0.7}
    record = {"id": 1, "segmentation": {"counts": ""}, "exits": remarks}
    made = Records([record, {"id": 2, "exits": remarks}])
    judged = [(item(1), 0.6), (item(2), 0.0), (item(3), 0.0)]
    assert scored(made, judged) == [
        Scored(5, 0.6, 0.9, 0.5, 0.7),
        Scored(5, 0.0, None),
        Scored(5, 0.0, None),
    ]


def test_the_words_are_at_most_six_lines_that_fit_a_screen():
    lines = said([*objects(*rising()), Scored(1, 0.0, None)])
    assert len(lines) == 6 and max(map(len, lines)) <= 110


def test_lowest_and_highest_scores_stand_beside_their_iou():
    scores, ious = np.repeat([0.9, 0.98], 20), np.repeat([0.25, 0.75], 20)
    lines = said(objects(scores, ious))
    assert lines[1] == (
        "  the 20 lowest scores: mean 90.0 %, true IoU 25.0 %; "
        "the 20 highest: mean 98.0 %, true IoU 75.0 %"
    )


def test_a_sign_that_is_alike_for_all_masks_is_called_so():
    *_, last = said(objects(*rising()))
    assert last.endswith("alike for all: clicks hit, bounding box")
    assert "clicks hit 50.0 %" not in last


def test_a_single_bad_mask_is_one_mask():
    found = objects(np.array([0.7, 0.8, 0.9]), np.array([0.2, 0.8, 0.8]))
    assert "  bad (IoU below 50 %): 1 mask, 33.3 %; of the tenth" in "\n".join(
        said(found)
    )


@pytest.mark.parametrize(("iou", "word"), [(0.9, "no"), (0.1, "every")])
def test_masks_that_are_all_alike_need_no_search(iou, word):
    lines = said(objects(np.array([0.7, 0.8]), np.array([iou, iou])))
    assert lines[-1] == f"  {word} mask is bad (IoU below 50 %)"


def test_a_split_without_any_mask_has_no_score():
    assert said([Scored(1, 0.0, None)]) == [
        "no object has a mask: there is no score to compare with the IoU"
    ]


def test_what_has_no_mask_is_told():
    *_, last = said([*objects(*rising()), Scored(1, 0.0, None)])
    assert last == "  without a mask, hence without a score: 1 object"


def test_a_pair_that_finds_more_than_either_is_named():
    rng = np.random.default_rng(0)
    first, second = rng.uniform(0.5, 1.0, (2, 100))
    first[:10], second[10:20] = first[:10] - 0.5, second[10:20] - 0.5
    found = [
        Scored(k, 0.2 if k < 20 else 0.8, first[k], 1.0, second[k]) for k in range(100)
    ]
    assert "the lower of score and bounding box" in "\n".join(said(found))
