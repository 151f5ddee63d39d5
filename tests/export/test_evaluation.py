import numpy as np
import pytest

from exits_jax.export import evaluation
from exits_jax.export.evaluation import EvaluatedObject


def objects():
    return [
        EvaluatedObject(1, 3, 0.9, "small", False),
        EvaluatedObject(2, 3, 0.7, "small", False),
        EvaluatedObject(3, 9, 0.2, "large", True),
    ]


def test_object_mean_weighs_objects_and_class_mean_weighs_classes():
    summary = evaluation.summarize(objects())
    assert summary["all"]["object_miou"] == pytest.approx(0.6)
    assert summary["all"]["class_miou"] == pytest.approx(0.5)


def test_every_group_holds_its_own_objects():
    summary = evaluation.summarize(objects())
    counts = {group: values["count"] for group, values in summary.items()}
    assert counts == {"all": 3, "small": 2, "medium": 0, "large": 1, "separated": 1}
    assert summary["separated"]["object_miou"] == pytest.approx(0.2)


def test_an_empty_group_has_no_mean():
    empty = evaluation.summarize([])["all"]
    assert empty == {"object_miou": None, "class_miou": None, "count": 0}


@pytest.mark.parametrize(
    ("area", "size"),
    [(1023, "small"), (1024, "medium"), (9215, "medium"), (9216, "large")],
)
def test_size_limits_belong_to_the_larger_group(area, size):
    assert evaluation.size_bucket(area) == size


def test_iou_of_known_masks():
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    assert evaluation.mask_iou(a, b) == 0
    a[:2], b[1:3] = True, True
    assert evaluation.mask_iou(a, b) == pytest.approx(1 / 3)
    assert evaluation.mask_iou(a, a) == 1


def test_iou_refuses_masks_of_different_images():
    with pytest.raises(ValueError, match="differ in shape"):
        evaluation.mask_iou(np.ones((1, 4), bool), np.ones((4, 4), bool))


def test_a_part_of_less_than_five_percent_does_not_separate_an_object():
    mask = np.zeros((30, 30), bool)
    mask[:10, :10] = True
    mask[20, 20:25] = True
    assert not evaluation.is_separated(mask)
    mask[21, 20:25] = True
    assert evaluation.is_separated(mask)


def test_table_shows_every_number_in_its_column():
    full = evaluation.summarize(objects())
    table = evaluation.format_table({"EXITS": full, "box as mask": full})
    lines = [line.split() for line in table.splitlines()]
    assert ["EXITS", "60.0", "80.0", "-", "20.0", "20.0"] in lines
    assert ["box", "as", "mask", "60.0", "80.0", "-", "20.0", "20.0"] in lines
    assert ["number", "of", "objects", "3", "2", "0", "1", "1"] in lines


def test_table_has_one_mean():
    table = evaluation.format_table({"EXITS": evaluation.summarize(objects())})
    assert "mean over objects" in table and table.count("EXITS") == 1


def test_table_shows_counts_of_each_method_when_they_differ():
    part = {"A": objects(), "B": objects()[:2]}
    summaries = {name: evaluation.summarize(some) for name, some in part.items()}
    lines = [line.split() for line in evaluation.format_table(summaries).splitlines()]
    assert lines[-2:] == [["A", *"32011"], ["B", *"22000"]]


def test_listed_occluded_objects_are_a_group_of_their_own():
    listed = [item._replace(is_occluded=k == 0) for k, item in enumerate(objects())]
    summary = evaluation.summarize(listed)
    assert summary["occluded"]["count"] == 1
    assert summary["occluded"]["object_miou"] == pytest.approx(listed[0].iou)
    assert "occluded" in evaluation.format_table({"EXITS": summary})
    assert "occluded" not in evaluation.summarize(objects())
