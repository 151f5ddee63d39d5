"""Figures of detections whose answer is known, and against the packages themselves."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from exits_jax.stage2.errors import Stage2Error
from exits_jax.stage2.measures.figures import coco_figures

# pycocotools decodes with a call of NumPy 1.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

DATA = os.environ.get("EXITS_DATA")
SIDE = 64


def rectangle(x, y, width, height):
    mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
    mask[y : y + height, x : x + width] = 1
    return mask


def rle(mask):
    coded = coco_mask.encode(np.asfortranarray(mask))
    return {"size": list(coded["size"]), "counts": coded["counts"].decode()}


WHOLE = rectangle(4, 4, 20, 20)
PARTED = rectangle(4, 40, 8, 10) | rectangle(30, 40, 8, 10)  # two parts of one object
LARGE = rectangle(30, 0, 34, 36)
MASKS = {0: WHOLE, 7: PARTED, 9: LARGE}  # by annotation id
CLASSES = {0: 3, 7: 5, 9: 3}
NAMES = {3: "dog", 5: "cat", 8: "cow"}


def annotation(identity, mask, category, **fields):
    return {
        "id": identity,
        "image_id": 1,
        "category_id": category,
        "area": int(mask.sum()),
        "bbox": coco_mask.toBbox(rle(mask)).tolist(),
        "iscrowd": 0,
        "segmentation": rle(mask),
    } | fields


def truth(tmp_path, *further, **changes):
    content = {
        "images": [
            {"id": 1, "file_name": "one.jpg", "height": SIDE, "width": SIDE},
            {"id": 2, "file_name": "two.jpg", "height": SIDE, "width": SIDE},
        ],
        "categories": [{"id": i, "name": name} for i, name in NAMES.items()],
        "annotations": [annotation(i, MASKS[i], CLASSES[i]) for i in MASKS]
        + list(further),
    } | changes
    path = tmp_path / "val.json"
    path.write_text(json.dumps(content))
    return path


def detection(mask, category=3, score=0.9, image=1):
    return {
        "image_id": image,
        "category_id": category,
        "score": score,
        "segmentation": rle(mask),
    }


PERFECT = [detection(MASKS[i], CLASSES[i]) for i in MASKS]


def ids(tmp_path, listed, name="ids.json"):
    path = tmp_path / name
    path.write_text(json.dumps(listed))
    return path


def direct(val, found):
    coco = COCO(str(val))
    judge = COCOeval(coco, coco.loadRes(json.loads(json.dumps(found))), "segm")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return [None if x < 0 else 100 * x for x in judge.stats[:6]]


def test_the_true_masks_score_100(tmp_path):
    figures = coco_figures(truth(tmp_path), PERFECT)
    found = {name: figures[name] for name in ("AP", "AP50", "AP75", "APs", "APm")}
    assert found == pytest.approx(dict.fromkeys(found, 100))
    assert figures["AP_class_agnostic"] == pytest.approx(100)
    assert figures["per_class"] == {
        "dog": pytest.approx(100),
        "cat": pytest.approx(100),
        "cow": None,
    }
    assert figures["metric"] == "coco"


def test_a_size_without_objects_has_no_figure(tmp_path):
    assert coco_figures(truth(tmp_path), PERFECT)["APl"] is None


def test_a_shifted_box_counts_up_to_its_iou(tmp_path):
    """20 x 20 px shifted by 5: IoU 300 / 500 = 0.6, so 3 of the 10 thresholds hold."""
    val = truth(tmp_path, annotations=[annotation(1, WHOLE, 3)])
    figures = coco_figures(val, [detection(rectangle(9, 4, 20, 20))])
    assert figures["AP50"] == pytest.approx(100)
    assert figures["AP75"] == 0
    assert figures["AP"] == pytest.approx(30)


def test_the_right_mask_of_the_wrong_class_counts_without_classes_only(tmp_path):
    val = truth(tmp_path, annotations=[annotation(1, WHOLE, 3)])
    figures = coco_figures(val, [detection(WHOLE, category=5)])
    assert figures["AP"] == 0
    assert figures["AP_class_agnostic"] == pytest.approx(100)


def test_no_detection_is_zero(tmp_path):
    figures = coco_figures(truth(tmp_path), [])
    assert (figures["AP"], figures["AP50"], figures["recall_separated"]) == (0, 0, 0)
    assert figures["per_class"] == {"dog": 0, "cat": 0, "cow": None}


def test_a_detection_on_a_crowd_region_is_no_mistake(tmp_path):
    crowd = annotation(11, rectangle(40, 40, 20, 20), 3, iscrowd=1)
    found = [*PERFECT, detection(rectangle(42, 42, 10, 10), score=0.99)]
    assert coco_figures(truth(tmp_path, crowd), found)["AP"] == pytest.approx(100)
    assert coco_figures(truth(tmp_path), found)["AP"] < 90


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_a_direct_run_of_cocoeval(tmp_path, seed):
    rng = np.random.default_rng(seed)
    records, found = [], []
    for number in range(1, 25):
        x, y, w, h = rng.integers(2, 30, 4)
        category, image = int(rng.choice([3, 5, 8])), int(rng.integers(1, 3))
        crowd = int(rng.random() < 0.1)
        mask = rectangle(x, y, w, h)
        fields = {"image_id": image, "iscrowd": crowd}
        records.append(annotation(number, mask, category, **fields))
        for _ in range(rng.integers(0, 3)):
            dx, dy = rng.integers(0, 4, 2)
            moved, score = rectangle(x + dx, y + dy, w, h), float(rng.random())
            found.append(detection(moved, category, score, image))
    val = truth(tmp_path, annotations=records)
    figures = coco_figures(val, found)
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    assert [figures[name] for name in names] == pytest.approx(direct(val, found))


def test_the_size_of_a_detection_goes_by_its_mask_not_by_its_box(tmp_path):
    """Its box is medium, its mask is small: unmatched, it is a mistake among small."""
    diagonal = np.eye(SIDE, dtype=np.uint8)
    found = [*PERFECT, detection(diagonal, score=0.99)]
    boxed = [each | {"bbox": [0, 0, SIDE, SIDE]} for each in found]
    val = truth(tmp_path)
    assert coco_figures(val, boxed) == coco_figures(val, found)
    assert coco_figures(val, boxed)["APs"] < 90
    assert coco_figures(val, boxed)["APm"] == pytest.approx(100)


def test_detections_may_be_a_file(tmp_path):
    path = tmp_path / "detections.segm.json"
    path.write_text(json.dumps(PERFECT))
    assert coco_figures(truth(tmp_path), path)["AP"] == pytest.approx(100)


def test_objects_of_two_parts_are_separated_where_no_list_says_so(tmp_path):
    val = truth(tmp_path)
    figures = coco_figures(val, PERFECT)
    assert figures["separated"] == {"objects": 1, "not_in_val": 0}
    assert figures["recall_separated"] == 100
    assert coco_figures(val, PERFECT[:1])["recall_separated"] == 0
    assert (figures["recall_occluded"], figures["occluded"]) == (None, None)


@pytest.mark.parametrize(
    ("found", "recall"),
    [
        (detection(WHOLE, score=0.3), 100),
        (detection(WHOLE, score=0.29), 0),
        (detection(WHOLE, category=5), 0),
        (detection(WHOLE, image=2), 0),
        (detection(rectangle(4, 4, 15, 20)), 100),  # IoU 0.75
        (detection(rectangle(4, 4, 15, 19)), 0),
    ],
)
def test_recall_needs_a_sure_detection_of_the_class_that_covers(
    tmp_path, found, recall
):
    figures = coco_figures(truth(tmp_path), [found], occluded_ids=ids(tmp_path, [0]))
    assert figures["recall_occluded"] == recall


def test_listed_objects_of_other_images_are_counted_and_left_out(tmp_path):
    listed = ids(tmp_path, [0, 7, 123456])
    figures = coco_figures(truth(tmp_path), PERFECT[:1], separated_ids=listed)
    assert figures["separated"] == {"objects": 2, "not_in_val": 1}
    assert figures["recall_separated"] == 50


def published(tmp_path, *entries):
    path = tmp_path / "list.pkl"
    path.write_bytes(pickle.dumps([list(entry) for entry in entries]))
    return path


def test_reads_the_published_pickles(tmp_path):
    listed = published(
        tmp_path,
        ("one.jpg", "dog", 0, [4, 4, 24, 24], rle(WHOLE)),
        ("one.jpg", "cat", 7, [4, 40, 38, 50], rle(PARTED)),
        ("other.jpg", "cat", 99, [0, 0, 5, 5], rle(WHOLE)),
    )
    figures = coco_figures(truth(tmp_path), PERFECT[:1], separated_ids=listed)
    assert figures["separated"] == {"objects": 2, "not_in_val": 1}
    assert figures["recall_separated"] == 50


def test_a_published_list_fits_a_file_whose_classes_were_made_one(tmp_path):
    records = [annotation(i, MASKS[i], 1) for i in MASKS]
    one = truth(tmp_path, annotations=records, categories=[{"id": 1, "name": "object"}])
    listed = published(tmp_path, ("one.jpg", "dog", 0, [4, 4, 24, 24], rle(WHOLE)))
    found = [detection(WHOLE, category=1)]
    assert coco_figures(one, found, occluded_ids=listed)["recall_occluded"] == 100


class _Harmful:
    def __reduce__(self):
        return (os.mkdir, ("harm",))


def test_runs_nothing_of_a_pickle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "list.pkl"
    path.write_bytes(pickle.dumps([_Harmful()]))
    with pytest.raises(Stage2Error, match="nothing of it was run"):
        coco_figures(truth(tmp_path), PERFECT, occluded_ids=path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.filterwarnings("ignore")  # of mmdet and torch, on their import
def test_recall_is_that_of_mmdet(tmp_path):
    """`CocoOccludedSeparatedMetric` on the same masks and lists."""
    pytest.importorskip("mmcv", reason="mmdet needs mmcv")
    from mmdet.evaluation import CocoOccludedSeparatedMetric

    rng = np.random.default_rng(0)
    objects = {n: rectangle(*rng.integers(4, 30, 4)) for n in range(1, 21)}
    val = truth(tmp_path, annotations=[annotation(i, m, 3) for i, m in objects.items()])
    moved = [np.roll(mask, rng.integers(0, 3), axis=1) for mask in objects.values()]
    found = [detection(mask, score=float(rng.random())) for mask in moved]
    listed = published(
        tmp_path,
        *(("one.jpg", "dog", i, [0, 0, 1, 1], rle(m)) for i, m in objects.items()),
    )
    metric = CocoOccludedSeparatedMetric(
        ann_file=str(val), occluded_ann=str(listed), separated_ann=str(listed)
    )
    metric.dataset_meta = {"classes": tuple(NAMES.values())}
    metric._coco_api = COCO(str(val))
    raw = {
        "img_id": 1,
        "bboxes": np.zeros((len(found), 4)),
        "scores": np.array([each["score"] for each in found]),
        "labels": np.zeros(len(found), int),
        "masks": [each["segmentation"] for each in found],
    }
    expected = metric.evaluate_occluded_separated([({}, raw)])["separated_recall"]
    assert 0 < expected < 100
    figures = coco_figures(val, found, separated_ids=listed)
    assert figures["recall_separated"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (detection(WHOLE, image=5), "image 5, which is not in"),
        (detection(WHOLE, category=4), "category 4, which is not in"),
        (detection(WHOLE, score=float("nan")), "has the score nan"),
        ({"image_id": 1, "category_id": 3, "score": 1.0}, "'segmentation'"),
        (detection(np.zeros((8, 9), np.uint8)), r"size \[8, 9\]; expected"),
        (detection(WHOLE) | {"segmentation": "no"}, "mask cannot be read"),
        ("no", "detection 1 is no COCO result"),
    ],
)
def test_refuses_a_detection_that_does_not_fit(tmp_path, found, message):
    with pytest.raises(Stage2Error, match=message):
        coco_figures(truth(tmp_path), [found])


def test_refuses_files_that_are_missing_or_broken(tmp_path):
    val, broken = truth(tmp_path), tmp_path / "broken.json"
    with pytest.raises(Stage2Error, match="nothing.json cannot be read"):
        coco_figures(val, tmp_path / "nothing.json")
    with pytest.raises(Stage2Error, match="list.json does not exist"):
        coco_figures(val, [], separated_ids=tmp_path / "list.json")
    broken.write_text("[{")
    with pytest.raises(Stage2Error, match="broken.json is no JSON"):
        coco_figures(val, broken)
    with pytest.raises(Stage2Error, match="broken.json is not JSON"):
        coco_figures(val, [], occluded_ids=broken)
    broken.write_text("{}")
    with pytest.raises(Stage2Error, match="expected a JSON list"):
        coco_figures(val, broken)


def federated(tmp_path, negative):
    images = [
        {
            "id": n,
            "file_name": f"{n}.jpg",
            "height": SIDE,
            "width": SIDE,
            "neg_category_ids": negative,
            "not_exhaustive_category_ids": [],
        }
        for n in (1, 2)
    ]
    categories = [
        {"id": i, "name": name, "frequency": frequency}
        for (i, name), frequency in zip(NAMES.items(), "rcf")
    ]
    return truth(tmp_path, images=images, categories=categories)


def test_lvis_forgives_classes_that_an_image_is_not_annotated_with(tmp_path):
    found = [*PERFECT, detection(LARGE, category=3, score=0.99, image=2)]
    federated_ap = coco_figures(federated(tmp_path, []), found, lvis=True)["AP"]
    assert federated_ap == pytest.approx(100)
    known = coco_figures(federated(tmp_path, [3]), found, lvis=True)
    assert known["AP"] < 90
    assert known["AP"] == pytest.approx(coco_figures(truth(tmp_path), found)["AP"])
    assert known["metric"] == "lvis"
    assert known["AP_class_agnostic"] is None


def test_lvis_has_figures_by_frequency(tmp_path):
    found = [each for each in PERFECT if each["category_id"] == 3]
    figures = coco_figures(federated(tmp_path, []), found, lvis=True)
    assert (figures["APr"], figures["APc"], figures["APf"]) == (
        pytest.approx(100),
        0,
        None,
    )
    assert figures["per_class"] == {"dog": pytest.approx(100), "cat": 0, "cow": None}


def test_lvis_without_detections_is_zero_and_leaves_numpy_as_it_was(tmp_path):
    assert coco_figures(federated(tmp_path, []), [], lvis=True)["AP"] == 0
    assert not hasattr(np, "float")


def test_lvis_needs_the_fields_of_lvis(tmp_path):
    with pytest.raises(Stage2Error, match="no LVIS file.*neg_category_ids.*frequency"):
        coco_figures(truth(tmp_path), PERFECT, lvis=True)


@pytest.mark.skipif(DATA is None, reason="EXITS_DATA names no folder of test data")
@pytest.mark.parametrize(
    ("name", "lvis", "separated"), [("coco_mini", False, 76), ("lvis_mini", True, 49)]
)
def test_the_true_masks_of_photographs_score_100(name, lvis, separated):
    folder = Path(DATA or "") / name / "annotations"
    coco = COCO(str(folder / "val.json"))
    found = [
        {
            "image_id": each["image_id"],
            "category_id": each["category_id"],
            "score": 1.0,
            "segmentation": coco.annToRLE(each),
        }
        for each in coco.dataset["annotations"]
        if not each.get("iscrowd")
    ]
    listed = folder / "val_separated_ids.json"
    figures = coco_figures(folder / "val.json", found, separated_ids=listed, lvis=lvis)
    assert figures["AP"] == pytest.approx(100)
    assert figures["recall_separated"] == 100
    assert figures["separated"] == {"objects": separated, "not_in_val": 0}
    by_parts = coco_figures(folder / "val.json", found, lvis=lvis)
    assert by_parts["separated"] == figures["separated"]
