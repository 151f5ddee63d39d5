"""The benchmarks' own files and layouts, from their configurations through prepare."""

import json
import os
import shutil
from pathlib import Path

import pytest

from configs import coco, lvis, voc
from exits_jax import exit_status, main
from tests.support import toy
from tests.support.voc_tree import Tree

FORMATS = Path(os.environ.get("EXITS_DATA", "/nonexistent")) / "formats"
needs_data = pytest.mark.skipif(
    not FORMATS.is_dir(), reason="needs EXITS_DATA, a folder with formats"
)


def _config(module, workdir):
    config = module.get_config()
    config.workdir = str(workdir)
    config.batch_size = config.generate.batch_size = 4  # a multiple of the devices
    return config


def _voc_config(workdir, devkit, sbd):
    config = _config(voc, workdir)
    config.data.voc.devkit, config.data.voc.sbd = str(devkit), str(sbd)
    return config


def _written(workdir, name):
    return json.loads((workdir / name).read_text())


@pytest.fixture
def tree(tmp_path):
    made = Tree(tmp_path)
    made.add_voc("2007_000027", "val", "sbd/train")
    made.add_voc("2008_000002", "train", classes=(1, 2))
    made.add_sbd("2008_000001", "sbd/train")
    return made


def test_voc_and_sbd_become_two_splits_with_points_and_no_masks(tree, capsys):
    workdir = tree.devkit.parent / "run"
    config = _voc_config(workdir, tree.voc, tree.sbd / "dataset")
    assert main.run(config, "prepare") == exit_status.OK
    said = capsys.readouterr().err
    assert "train_aug: 2 images (the published set has 10,582)" in said
    assert "val: 1 images (the published set has 1,449)" in said
    for split in ("train", "val"):
        records = _written(workdir, f"annotations/{split}.json")["annotations"]
        assert records and all("extreme_points" in record for record in records)
        assert not any("segmentation" in record for record in records)
    masks = _written(workdir, "voc/train_aug.json")["annotations"]
    assert all(record["segmentation"]["counts"] for record in masks)


def test_without_sbd_voc_trains_on_its_own_images(tree):
    workdir = tree.devkit.parent / "run"
    assert main.run(_voc_config(workdir, tree.voc, ""), "prepare") == exit_status.OK
    images = _written(workdir, "annotations/train.json")["images"]
    assert [image["id"] for image in images] == [2008000002]


def test_faults_of_voc_are_written_down_or_refused(tree, capsys):
    (tree.voc / "SegmentationClass" / "2008_000002.png").unlink()
    workdir = tree.devkit.parent / "run"
    config = _voc_config(workdir, tree.voc, tree.sbd / "dataset")
    assert main.run(config, "prepare") == exit_status.OK
    (fault,) = _written(workdir, "voc/train_aug_problems.json")
    assert fault["code"] == "E111" and "2008_000002" in fault["message"]
    strict = _voc_config(workdir / "strict", tree.voc, tree.sbd / "dataset")
    strict.data.on_bad = "error"
    assert main.run(strict, "prepare") == exit_status.BAD_INPUT
    few = _voc_config(workdir / "few", tree.voc, tree.sbd / "dataset")
    few.data.max_skip_fraction = 0.1
    assert main.run(few, "prepare") == exit_status.PARTIAL
    said = capsys.readouterr().err
    assert "data.on_bad=skip" in said and "data.max_skip_fraction = 0.1" in said


def test_lvis_finds_images_of_both_folders_by_their_url(tmp_path):
    source = toy.write_dataset(tmp_path)
    for number, image in enumerate(source["images"]):
        folder, name = f"{'val' if number % 2 else 'train'}2017", image["file_name"]
        (tmp_path / "images" / folder).mkdir(exist_ok=True)
        shutil.move(tmp_path / "images" / name, tmp_path / "images" / folder / name)
        del image["file_name"]
        image["coco_url"] = f"http://images.cocodataset.org/{folder}/{name}"
        image["neg_category_ids"] = [2]
    toy.write_annotations(tmp_path, source)
    config = _config(lvis, tmp_path / "run")
    config.data.train = config.data.val = str(tmp_path / "annotations.json")
    config.data.images = str(tmp_path / "images")
    assert main.run(config, "prepare") == exit_status.OK
    made = _written(tmp_path / "run", "annotations/train.json")
    assert made["images"] == source["images"]
    assert len(made["annotations"]) == len(source["annotations"])


@needs_data
def test_voc_and_sbd_files_at_hand(tmp_path):
    devkit = FORMATS / "voc_layout" / "VOCdevkit" / "VOC2012"
    config = _voc_config(tmp_path, devkit, FORMATS / "sbd_layout" / "dataset")
    assert main.run(config, "prepare") == exit_status.OK
    facts = _written(tmp_path, "phases/prepare.json")["facts"]["counts"]
    assert facts["train"]["with_points"] == 13 and facts["val"]["with_points"] == 15


@needs_data
def test_coco_files_at_hand(tmp_path):
    folder = FORMATS / "coco_official"
    config = _config(coco, tmp_path)
    for split, field in (("train", "images"), ("val", "val_images")):
        config.data[split] = str(folder / f"instances_{split}2017.json")
        config.data[field] = str(folder / f"{split}2017")
    assert main.run(config, "prepare") == exit_status.OK
    facts = _written(tmp_path, "phases/prepare.json")["facts"]["counts"]
    assert facts["train"]["objects"] == 4 and facts["val"]["objects"] == 19


@needs_data
def test_lvis_files_at_hand(tmp_path):
    folder = FORMATS.parent / "lvis_mini"
    config = _config(lvis, tmp_path)
    config.data.train = config.data.val = str(folder / "annotations" / "val.json")
    config.data.images = str(folder / "images")
    assert main.run(config, "prepare") == exit_status.OK
    made = _written(tmp_path, "annotations/train.json")
    assert len(made["annotations"]) == 452
    assert all("neg_category_ids" in image for image in made["images"])
