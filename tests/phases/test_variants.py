"""Other supervision than extreme points with pseudo points."""

import json

import pytest

from exits_jax import exit_status, main
from tests.support import toy


def _boxes_only(source):
    for record in source["annotations"]:
        del record["segmentation"], record["extreme_points"]
    source["annotations"][0]["iscrowd"] = 1


@pytest.fixture(scope="module")
def box_run(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("boxes")
    source = json.loads((dataset / "annotations.json").read_text())
    _boxes_only(source)
    toy.write_annotations(folder, source)
    (folder / "images").symlink_to(dataset / "images")
    config = toy.config_for(
        folder, folder / "run", similarity__select=True, train__steps=4
    )
    assert main.run(config) == exit_status.OK
    return folder / "run"


def test_boxes_alone_fall_back_on_tightness(box_run):
    fallback = [
        row["points/mil_fallback_fraction"] for row in toy.rows(box_run, "train")
    ]
    assert fallback == [1.0] * 4


def test_boxes_alone_leave_the_choice_of_layers_to_the_configuration(box_run):
    assert not (box_run / "similarity.json").exists()
    assert "similarity.layers stays" in (box_run / "log.txt").read_text()


def test_crowds_are_neither_trained_on_nor_labeled(box_run):
    position = json.loads(
        next((box_run / "checkpoints" / "train" / "4").glob("input/*")).read_text()
    )
    assert position["num_samples"] == 15  # of 16
    ids = {
        r["id"]
        for r in json.loads((box_run / "pseudo_masks.json").read_text())["annotations"]
    }
    assert 10 not in ids


def test_a_crowd_without_a_mask_is_listed_with_its_reason(box_run):
    (entry,) = json.loads((box_run / "skipped.json").read_text())
    assert entry["id"] == 10 and "crowd region has no usable mask" in entry["message"]


def test_without_true_masks_the_evaluation_says_so(box_run):
    assert json.loads((box_run / "evaluation.json").read_text())["all"] is None


@pytest.mark.parametrize(
    ("change", "losses"),
    [
        ({"loss.method": "mil_crf"}, {"loss/mil", "loss/crf"}),
        ({"points.use_pseudo": False}, {"loss/point", "loss/crf"}),
    ],
    ids=["mil_crf", "annotated points"],
)
def test_methods_without_an_extractor_skip_its_phases(
    dataset, tmp_path, change, losses
):
    config = toy.config_for(dataset, tmp_path / "run", train__steps=2, **change)
    assert main.run(config) == exit_status.OK
    assert losses <= toy.rows(tmp_path / "run", "train")[-1].keys()
    assert not (tmp_path / "run" / "checkpoints" / "warmup").exists()
    assert (tmp_path / "run" / "pseudo_masks.json").exists()
    assert (tmp_path / "run" / "contact_sheet.png").exists()
