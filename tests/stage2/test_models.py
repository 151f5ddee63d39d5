"""The detectors at work on drawn images: the real classes, with small heads."""

import collections

import numpy as np
import pytest
import tiny
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.hooks import Hook
from mmengine.runner import Runner
from pycocotools import mask as coco_mask

TRAINED = [
    "solov2_r50_fpn_1x",
    "mask2former_r50",
    "mask2former_swin_s",
    "condinst_r50_fpn",
    "mask_rcnn_r50_fpn",
]
LARGE = [
    "solov2_r101_dcn_fpn_3x",
    "solov2_x101_dcn_fpn_3x",
    "condinst_r101_dcn_fpn",
    "lvis_mask_rcnn_x101_64x4d",
]
CATEGORY_IDS = {7, 8, 9}


class Snapshot(Hook):
    """The weights that a training starts from."""

    def before_train(self, runner):
        self.weights = {k: v.clone() for k, v in runner.model.named_parameters()}


def train(config):
    """Trains; returns the runner and, of each part, the share of tensors that changed.

    Steps that are below float32's resolution leave some of them.
    """
    runner, snapshot = Runner.from_cfg(tiny.shrunk(config)), Snapshot()
    runner.register_hook(snapshot)
    runner.train()
    parts = collections.defaultdict(list)
    for name, value in runner.model.named_parameters():
        same = torch.equal(value, snapshot.weights[name])
        parts[name.partition(".")[0]].append(not same)
    return runner, {part: sum(each) / len(each) for part, each in parts.items()}


def path_of(name):
    return tiny.ROOT / f"configs/mmdet/{name}.py"


def score(runner, name):
    return float(runner.message_hub.get_scalar(f"val/{name}").current())


def check_detections(path):
    detections = tiny.read(path)
    assert detections
    for each in detections:
        assert each["category_id"] in CATEGORY_IDS
        assert each["segmentation"]["size"] == [tiny.HEIGHT, tiny.WIDTH]
        coco_mask.decode(each["segmentation"])


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_detector_learns_from_pseudo_masks_and_is_judged(name, tmp_path):
    tiny.draw(tmp_path)
    config = tiny.filled(path_of(name), tmp_path, iterations=2)
    runner, changed = train(config)
    assert runner.iter == 2
    assert min(changed.values()) > 0.5
    assert all(torch.isfinite(v).all() for v in runner.model.parameters())
    assert 0 <= score(runner, "coco/segm_mAP") <= 1
    check_detections(tmp_path / "work/detections.segm.json")
    assert (tmp_path / "work/iter_2.pth").is_file()


@pytest.mark.slow
def test_lvis_detector_learns_from_pseudo_masks_and_is_judged_by_its_metric(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(np, "float", float, raising=False)  # lvis is older than NumPy 2
    path = tiny.as_lvis(tiny.draw(tmp_path))
    files = {"train": path, "val": path, "images": tmp_path, "val_images": tmp_path}
    name = "lvis_mask_rcnn_x101_32x4d"
    config = tiny.filled(path_of(name), tmp_path, iterations=2, **files)
    runner, changed = train(config)
    assert type(runner.train_dataloader.dataset.dataset).__name__ == "LVISV1Dataset"
    assert min(changed.values()) > 0.5
    assert 0 <= score(runner, "lvis/segm_AP") <= 1
    check_detections(tmp_path / "work/detections.segm.json")


@pytest.mark.slow
def test_training_by_epochs_sees_each_image_once_in_an_epoch(tmp_path):
    tiny.draw(tmp_path, number=3)
    config = tiny.filled(path_of("condinst_r50_fpn"), tmp_path, epochs=1)
    runner, _ = train(config)
    assert (runner.epoch, runner.iter) == (1, 3)
    assert (tmp_path / "work/epoch_1.pth").is_file()


@pytest.mark.parametrize("name", LARGE)
def test_large_detector_finds_masks_in_an_image(name, tmp_path):
    config = tiny.shrunk(tiny.filled(path_of(name), tmp_path))
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    model.eval()
    image = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)
    sizes = {"img_shape": (64, 64), "ori_shape": (64, 64), "scale_factor": (1.0, 1.0)}
    sample = DetDataSample(metainfo=sizes)
    with torch.no_grad():
        [found] = model.test_step({"inputs": [image], "data_samples": [sample]})
    found = found.pred_instances
    assert 0 < len(found) <= 5
    assert found.masks.shape == (len(found), 64, 64)
    assert set(found.labels.tolist()) <= {0, 1, 2}
