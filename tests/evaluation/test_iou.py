import numpy as np
import pytest

from exits_jax.evaluation import iou
from exits_jax.evaluation.iou import EvaluatedObject
from exits_jax.object_sizes import size_class


def objects():
    return [
        EvaluatedObject(1, 3, 0.9, "small", False),
        EvaluatedObject(2, 3, 0.7, "small", False),
        EvaluatedObject(3, 9, 0.2, "large", True),
    ]


def test_object_mean_weighs_objects_and_class_mean_weighs_classes():
    summary = iou.summarize(objects())
    assert summary["all"]["object_miou"] == pytest.approx(0.6)
    assert summary["all"]["class_miou"] == pytest.approx(0.5)


def test_every_group_holds_its_own_objects():
    summary = iou.summarize(objects())
    counts = {group: values["count"] for group, values in summary.items()}
    assert counts == {"all": 3, "small": 2, "medium": 0, "large": 1, "separated": 1}
    assert summary["separated"]["object_miou"] == pytest.approx(0.2)


def test_an_empty_group_has_no_mean():
    empty = iou.summarize([])["all"]
    assert empty.pop("count") == 0
    assert set(empty.values()) == {None}


@pytest.mark.parametrize(
    ("area", "size"),
    [(1023, "small"), (1024, "medium"), (9215, "medium"), (9216, "large")],
)
def test_size_limits_belong_to_the_larger_group(area, size):
    assert size_class(area) == size


def test_iou_of_known_masks():
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    assert iou.mask_iou(a, b) == 0
    a[:2], b[1:3] = True, True
    assert iou.mask_iou(a, b) == pytest.approx(1 / 3)
    assert iou.mask_iou(a, a) == 1


def test_iou_refuses_masks_of_different_images():
    with pytest.raises(ValueError, match="differ in shape"):
        iou.mask_iou(np.ones((1, 4), bool), np.ones((4, 4), bool))


def test_a_part_of_less_than_five_percent_does_not_separate_an_object():
    mask = np.zeros((30, 30), bool)
    mask[:10, :10] = True
    mask[20, 20:25] = True
    assert not iou.is_separated(mask)
    mask[21, 20:25] = True
    assert iou.is_separated(mask)


def test_table_shows_every_number_in_its_column():
    full = iou.summarize(objects())
    table = iou.format_table({"EXITS": full, "box as mask": full})
    lines = [line.split() for line in table.splitlines()]
    assert ["EXITS", "60.0", "80.0", "-", "20.0", "20.0"] in lines
    assert ["box", "as", "mask", "60.0", "80.0", "-", "20.0", "20.0"] in lines
    assert ["number", "of", "objects", "3", "2", "0", "1", "1"] in lines


def test_table_has_one_mean():
    table = iou.format_table({"EXITS": iou.summarize(objects())})
    assert "mean over objects" in table and table.count("EXITS") == 1


def test_table_shows_counts_of_each_method_when_they_differ():
    part = {"A": objects(), "B": objects()[:2]}
    summaries = {name: iou.summarize(some) for name, some in part.items()}
    lines = [line.split() for line in iou.format_table(summaries).splitlines()]
    assert lines[-2:] == [["A", *"32011"], ["B", *"22000"]]


def test_listed_occluded_objects_are_a_group_of_their_own():
    listed = [item._replace(is_occluded=k == 0) for k, item in enumerate(objects())]
    summary = iou.summarize(listed)
    assert summary["occluded"]["count"] == 1
    assert summary["occluded"]["object_miou"] == pytest.approx(listed[0].iou)
    assert "occluded" in iou.format_table({"EXITS": summary})
    assert "occluded" not in iou.summarize(objects())


def test_the_share_of_clicks_is_a_mean_over_what_was_clicked():
    first, second, third = objects()
    clicked = [first._replace(clicks_hit=0.5), second._replace(clicks_hit=1.0), third]
    summary = iou.summarize(clicked)
    assert summary["all"]["clicks_hit"] == 0.75
    assert summary["large"]["clicks_hit"] is None
    lines = iou.format_table({"EXITS": summary}).splitlines()
    assert lines[0].endswith("  clicks hit") and lines[2].endswith("  75.0")


def test_a_table_of_boxes_alone_has_no_column_of_clicks():
    table = iou.format_table({"EXITS": iou.summarize(objects())})
    assert "clicks" not in table


def two_parts():
    mask = np.zeros((120, 120), bool)
    mask[10:20, 10:20] = mask[40:60, 10:110] = True
    return mask, (10.0, 10.0, 110.0, 60.0)


def test_an_object_has_its_groups_before_a_mask_is_compared():
    mask, box = two_parts()
    item = iou.described(7, 3, mask, box)
    assert item == EvaluatedObject(7, 3, 0.0, "medium", is_separated=False)
    mask[:, 60:70] = False
    by_mask = iou.described(7, 3, mask, box, size_by="mask", occluded_ids={7})
    assert by_mask == EvaluatedObject(
        7, 3, 0.0, "medium", is_separated=True, is_occluded=True
    )


def test_a_list_of_separated_objects_replaces_the_look_at_parts():
    mask, box = two_parts()
    mask[:, 60:70] = False
    assert iou.described(7, 3, mask, box, separated_ids={7}).is_separated
    assert not iou.described(7, 3, mask, box, separated_ids={8}).is_separated


def test_a_mask_is_judged_by_its_overlap_and_its_clicks():
    mask, box = two_parts()
    item = iou.described(7, 3, mask, box)
    clicks = np.array([[15, 10], [10, 50], [40, 59], [109, 50]])
    found = mask.copy()
    found[:20], found[:, 108:] = False, False  # a click 2 px away is hit all the same
    judged = iou.judged(item, found, mask, clicks, box)
    assert judged.clicks_hit == 0.75
    assert judged.iou == pytest.approx(found.sum() / mask.sum())
    empty = iou.judged(item, np.zeros_like(mask), mask, clicks, box)
    assert (empty.iou, empty.clicks_hit) == (0, 0)
    assert iou.judged(item, found, mask, None, box).clicks_hit is None
