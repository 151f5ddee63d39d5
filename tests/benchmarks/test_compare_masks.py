import json

import numpy as np
import pytest

from benchmarks import compare_masks
from benchmarks.common.bootstrap import Interval, Resamples, in_words, interval
from exits_jax.data import rle
from exits_jax.data.extreme_points import clean_points

SIDE = 64


def square(x, y, width, height=None):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y : y + (height or width), x : x + width] = True
    return mask


def masks():
    """By id; the fourth is a sliver, the fifth has two parts."""
    two = square(4, 4, 10) | square(4, 30, 10)
    return {
        1: square(10, 10, 20),
        2: square(30, 30, 30),
        3: square(5, 5, 40),
        4: square(8, 8, 2, 30),
        5: two,
    }


def coco(found, hits=None):
    """A file with one image for two objects."""
    records = [
        {
            "id": identity,
            "image_id": (identity + 1) // 2,
            "category_id": 1 + identity % 2,
            "iscrowd": 0,
            "bbox": [1, 1, 60, 60],
            "extreme_points": clean_points(masks()[identity]).tolist(),
            "segmentation": rle.encode(mask),
        }
        for identity, mask in found.items()
    ]
    if hits:
        for record in records:
            record["exits"] = {"click_hit": hits}
    return {
        "images": [
            {"id": each, "file_name": f"{each}.jpg", "width": SIDE, "height": SIDE}
            for each in (1, 2, 3)
        ],
        "annotations": records,
        "categories": [{"id": 1}, {"id": 2}],
    }


@pytest.fixture
def table(tmp_path, capsys):
    """Runs the command on drawn files; the cells of its lines."""

    def run(*options, **files):
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        names = [f"{name}={tmp_path}/{name}.json" for name in files if name != "truth"]
        compare_masks.main([f"--truth={tmp_path}/truth.json", *names, *options])
        lines = capsys.readouterr().out.splitlines()
        cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
        return [
            dict(zip(compare_masks.COLUMNS, row[1:])) | {"": row[0]} if row else {}
            for row in cells
        ]

    return run


def test_true_masks_are_perfect_and_their_intervals_empty(table):
    _, _, ours, counts = table(truth=coco(masks()), ours=coco(masks()))
    assert ours["all"] == ours["class mean"] == "100.0 [100.0, 100.0]"
    assert [counts[key] for key in ("all", "small", "medium", "large")] == list("4310")
    assert counts["separated"] == "1" and ours["large"] == "-"


def test_an_object_without_a_mask_counts_as_nothing(table):
    found = masks()
    del found[1]
    _, _, ours, counts = table(truth=coco(masks()), ours=coco(found))
    assert ours["all"].startswith("75.0 [") and counts["all"] == "4"


def test_objects_with_a_narrow_box_do_not_count_unless_asked_for(table):
    files = {"truth": coco(masks()), "ours": coco(masks())}
    assert table(**files)[3]["all"] == "4"
    assert table("--min_side_px=1", **files)[3]["all"] == "5"


def test_differences_are_to_the_first_file(table):
    half = {identity: mask.copy() for identity, mask in masks().items()}
    half[2][:45] = False
    lines = table(truth=coco(masks()), first=coco(half), second=coco(masks()))
    title, row = lines[-3], lines[-1]
    assert title[""] == "minus first" and row[""] == "second"
    assert row["all"].startswith("+12.5 [+0.0, ")
    assert row["separated"] == "+0.0 [+0.0, +0.0]"


def test_lists_say_what_is_separated_and_what_counts(table, tmp_path):
    (tmp_path / "separated").write_text("[1, 2]")
    (tmp_path / "only").write_text("[2, 3, 5]")
    options = (f"--separated_ids={tmp_path}/separated", f"--only_ids={tmp_path}/only")
    counts = table(*options, truth=coco(masks()), ours=coco(masks()))[3]
    assert (counts["all"], counts["separated"]) == ("3", "1")


def test_clicks_are_hit_as_the_file_says(table):
    found = masks()
    del found[1]
    lines = table(
        truth=coco(masks()), silent=coco(found), told=coco(found, [1, 1, 0, 0])
    )
    assert lines[2]["clicks hit"] == "-"
    assert lines[3]["clicks hit"].startswith("37.5 [")  # none of what has no mask


def test_faulty_records_of_the_truth_do_not_count(table):
    truth = coco(masks())
    truth["annotations"][0]["image_id"] = 99
    truth["annotations"][1]["segmentation"] = None
    truth["annotations"][2]["iscrowd"] = 1
    truth["annotations"].append(truth["annotations"][4])
    assert table(truth=truth, ours=coco(masks()))[3]["all"] == "1"


def test_clicks_are_made_from_masks_where_the_truth_has_none(table):
    truth = coco(masks())
    for record in truth["annotations"]:
        del record["extreme_points"]
    _, _, _, counts = table("--points=clean", truth=truth, ours=coco(masks()))
    assert [counts[key] for key in ("small", "medium")] == ["3", "1"]


@pytest.mark.parametrize("names", [["masks.json"], ["a=x.json", "a=y.json"]])
def test_a_file_without_a_name_of_its_own_is_refused(names, capsys):
    with pytest.raises(SystemExit):
        compare_masks.main(["--truth=val.json", *names])
    assert "needs a name of its own" in capsys.readouterr().err


def test_a_mean_weighs_objects_and_a_class_mean_classes():
    values = np.array([1.0, 1.0, 1.0, 0.0])
    images, classes = np.array([0, 0, 1, 1]), np.array(["a", "a", "a", "b"])
    resamples = Resamples(2)
    assert resamples.object_means(values, images)[0] == 0.75
    assert resamples.class_means(values, images, classes)[0] == 0.5


def test_objects_of_an_image_are_drawn_together():
    values = np.array([0.0, 1.0] * 50)
    together = Resamples(50).object_means(values, np.repeat(np.arange(50), 2))
    apart = Resamples(100).object_means(values, np.arange(100))
    assert interval(together) == (0.5, 0.5, 0.5)
    # The mean of 100 fair coins has a standard deviation of 0.05.
    assert interval(apart) == pytest.approx((0.5, 0.402, 0.598), abs=0.01)


def test_resamples_repeat():
    values, images = np.arange(5.0), np.arange(5)
    first = Resamples(5).object_means(values, images)
    np.testing.assert_array_equal(first, Resamples(5).object_means(values, images))


def test_draws_without_an_object_of_a_group_are_left_out():
    means = Resamples(3).object_means(np.array([0.5]), np.array([1]))
    assert np.isnan(means).any()
    assert interval(means) == (0.5, 0.5, 0.5)


def test_a_group_without_objects_has_no_figure():
    means = Resamples(3).object_means(np.array([np.nan]), np.array([1]))
    assert in_words(interval(means)) == "-"
    empty = np.zeros(0)
    nobody = Resamples(3).class_means(empty, empty.astype(int), empty)
    assert interval(nobody).value is None


def test_a_difference_shows_its_sign():
    found = Interval(0.021, -0.001, 0.04)
    assert in_words(found, signed=True) == "+2.1 [-0.1, +4.0]"
    assert in_words(found) == "2.1 [-0.1, 4.0]"
