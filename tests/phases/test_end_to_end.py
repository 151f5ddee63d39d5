"""configs/tiny.py through all phases, and what is in its work directory."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from exits_jax import exit_status, main
from exits_jax.data import rle
from tests.support import toy

GROUPS = {"all", "small", "medium", "large", "separated"}
VALUES = {"object_miou", "class_miou", "count", "clicks_hit"}
SPLITS = {"train": "", "val": "val"}


@pytest.fixture
def workdir(tiny_run):
    return Path(tiny_run.workdir)


def _read(path):
    return json.loads(path.read_text())


def test_a_second_run_says_that_there_is_nothing_to_do(tiny_run, workdir, capsys):
    made = {path: path.stat().st_mtime_ns for path in workdir.rglob("*.png")}
    made |= {p: p.stat().st_mtime_ns for p in workdir.rglob("*masks.json")}
    assert main.run(tiny_run) == exit_status.OK
    said = capsys.readouterr().err
    assert all(f"{phase}: done before" in said for phase in main.PHASES)
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_the_log_has_the_phases_what_compiles_and_the_losses(workdir):
    text = (workdir / "log.txt").read_text()
    told = [line.split(" INFO ")[-1] for line in text.splitlines()]
    assert [line for line in told if line.startswith("phase ")][:6] == [
        "phase 1 of 6: prepare",
        "phase 2 of 6: pretrain, 6 steps",
        "phase 3 of 6: warmup, 6 steps",
        "phase 4 of 6: train, 6 + 6 steps",
        "phase 5 of 6: generate, 65 objects",
        "phase 6 of 6: evaluate",
    ]
    for run in ("pretrain", "warmup", "start", "train"):
        assert f"{run}: compiling" in told
        (end,) = [line for line in told if line.startswith(f"{run}: 6 steps in ")]
        loss = toy.rows(workdir, run)[-1]["loss/total"]
        assert end.endswith(f", loss {loss:.4f}")


def test_masks_that_fit_their_boxes_are_not_called_good_for_it(workdir):
    text = (workdir / "log.txt").read_text()
    assert text.count("agreement with the annotation only, which says nothing") == 2


def test_the_evaluation_is_laid_out_for_people(workdir):
    assert (workdir / "evaluation.json").read_text().startswith('{\n  "all": {\n    "')


@pytest.mark.parametrize("split", SPLITS)
def test_every_annotation_has_a_mask_or_a_reason(workdir, split):
    folder = workdir / SPLITS[split]
    ids = {r["id"] for r in _read(workdir / "scenes" / f"{split}.json")["annotations"]}
    labeled = [r["id"] for r in _read(folder / "pseudo_masks.json")["annotations"]]
    skipped = [entry["id"] for entry in _read(folder / "skipped.json")]
    assert ids and sorted(labeled + skipped) == sorted(ids)


@pytest.mark.parametrize("split", SPLITS)
def test_masks_lie_in_their_boxes(workdir, split):
    masks = _read(workdir / SPLITS[split] / "pseudo_masks.json")["annotations"]
    assert masks
    for record in masks:
        rows, columns = np.nonzero(rle.decode(record["segmentation"]))
        x, y, width, height = record["bbox"]
        assert x <= columns.min() and columns.max() < x + width
        assert y <= rows.min() and rows.max() < y + height


def test_pycocotools_judges_the_masks(workdir):
    truth = COCO(str(workdir / "scenes" / "val.json"))
    pseudo = COCO(str(workdir / "val" / "pseudo_masks.json"))
    found = [
        {
            "image_id": record["image_id"],
            "category_id": record["category_id"],
            "segmentation": record["segmentation"],
            "score": record["score"],
        }
        for record in pseudo.loadAnns(pseudo.getAnnIds())
    ]
    judge = COCOeval(truth, truth.loadRes(found), "segm")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert judge.stats[1] >= 0  # AP at IoU 0.5


def test_the_evaluation_has_every_group_of_the_masks_and_of_the_floors(workdir):
    found = _read(workdir / "evaluation.json")
    floors = found["floors"]
    assert floors.keys() == {"box_as_mask", "octagon_through_the_clicks", "grabcut"}
    for summary in (found, *floors.values()):
        assert GROUPS <= summary.keys()
        assert all(summary[group].keys() == VALUES for group in GROUPS)
        assert 0 < summary["all"]["object_miou"] <= 1
    assert 0 <= found["covers_box"] <= 1
    assert found["all"]["count"] == len(
        _read(workdir / "scenes/val.json")["annotations"]
    )


def test_the_evaluation_tells_what_the_scores_are_worth(workdir):
    found = _read(workdir / "evaluation.json")
    scores = found["reliability"]
    made = len(_read(workdir / "val" / "pseudo_masks.json")["annotations"])
    assert scores["count"] == made
    assert scores["without_mask"] == found["all"]["count"] - made
    assert sum(each["count"] for each in scores["table"]) == made
    assert (
        "what scores (mean probability of a mask's pixels) are worth"
        in (workdir / "log.txt").read_text()
    )


def test_the_contact_sheet_is_a_picture(workdir):
    with Image.open(workdir / "contact_sheet.png") as picture:
        picture.load()
        assert min(picture.size) > 64


def test_metrics_have_their_names(workdir):
    common = {"run", "step", "loss/total", "optimizer/learning_rate"}
    common |= {"optimizer/grad_norm", "perf/images_per_s"}
    points = {"pseudo_fg_fraction", "pseudo_bg_fraction"}
    points |= {"mil_fallback_fraction", "sinkhorn_residual"}
    for run in ("pretrain", "warmup", "start", "train"):
        assert all(common <= row.keys() for row in toy.rows(workdir, run))
        assert toy.rows(workdir, run)[-1]["step"] == 6
    last = toy.rows(workdir, "train")[-1]
    assert {f"points/{name}" for name in points} <= last.keys()


def test_the_work_directory_explains_itself(tiny_run, workdir):
    assert _read(workdir / "config.json")["model"]["dim"] == tiny_run.model.dim
    environment = _read(workdir / "environment.json")
    assert len(environment["devices"]) == 4 and "jax" in environment["versions"]
    assert "held-out check" in (workdir / "log.txt").read_text()
    assert _read(workdir / "similarity.json")["choice"]["num_hops"] in (2, 3)
    assert list((workdir / "tensorboard").rglob("events*"))


def test_nothing_temporary_is_left(workdir):
    assert not toy.leftovers(workdir)


def test_annotations_that_training_reads_have_no_mask(workdir):
    for split in SPLITS:
        text = (workdir / "annotations" / f"{split}.json").read_text()
        assert "extreme_points" in text and "segmentation" not in text
