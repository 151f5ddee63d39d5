"""Where the weights of a detector start from."""

import importlib.util

import pytest
import tiny
import torch
from mmdet.registry import MODELS
from mmengine.hub import get_config

from exits_jax.stage2.errors import Stage2Error
from exits_jax.stage2.mmdet_config.initial import check_initial_weights
from exits_jax.stage2.mmdet_config.nodes import nodes

MASK_RCNN = "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"
MASK2FORMER = "mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py"
SWIN = "mmdet::mask2former/mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco.py"
NARROW = 4  # channels, so that files are small


def narrow(**changes):
    config = get_config(MASK_RCNN)
    config.model.backbone.update(base_channels=NARROW, **changes)
    return config


@pytest.fixture
def weights(tmp_path):
    """Weights of the narrow backbone, made by another seed than the models'."""
    torch.manual_seed(17)
    backbone = MODELS.build(
        {"type": "ResNet", "depth": 50, "base_channels": NARROW, "init_cfg": None}
    )
    backbone.init_weights()
    path = tmp_path / "resnet50.pth"
    torch.save(backbone.state_dict(), path)
    return path


def test_backbone_starts_from_the_given_file(weights, tmp_path):
    config = tiny.filled(narrow(), tmp_path, init=str(weights))
    backbone = MODELS.build(config.model.backbone)
    backbone.init_weights()
    for name, value in torch.load(weights).items():
        assert torch.equal(backbone.state_dict()[name], value), name


def test_nothing_else_is_loaded_beside_the_given_file(weights, tmp_path):
    config = narrow()
    config.load_from = "https://example.org/detector.pth"
    config = tiny.filled(config, tmp_path, init=str(weights))
    assert config.load_from is None
    chosen = [n.init_cfg.checkpoint for n in nodes(config.model) if n.get("init_cfg")]
    assert chosen == [str(weights)]


def test_file_that_fits_is_counted(weights, tmp_path):
    config = tiny.filled(narrow(), tmp_path, init=str(weights))
    said = check_initial_weights(config)
    assert said == f"159 of 159 tensors of the ResNet: {weights}"


def test_offsets_of_deformable_convolutions_are_not_missed(weights, tmp_path):
    deformable = {
        "dcn": {"type": "DCNv2", "deform_groups": 1, "fallback_on_stride": False},
        "stage_with_dcn": (False, True, True, True),
    }
    config = tiny.filled(narrow(**deformable), tmp_path, init=str(weights))
    assert check_initial_weights(config).startswith("159 of 159 tensors")


def test_file_of_another_model_is_refused(weights, tmp_path):
    config = narrow(depth=101)
    config = tiny.filled(config, tmp_path, init=str(weights))
    with pytest.raises(Stage2Error, match=r"do not fit the ResNet: 153 of its 312 "):
        check_initial_weights(config)


def test_detector_s_own_checkpoint_is_refused_where_a_backbone_is_meant(
    weights, tmp_path
):
    prefixed = {f"backbone.{k}": v for k, v in torch.load(weights).items()}
    torch.save({"state_dict": prefixed}, weights)
    config = tiny.filled(narrow(), tmp_path, init=str(weights))
    with pytest.raises(Stage2Error, match="159 of its 159 tensors are not in them"):
        check_initial_weights(config)


def test_file_that_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_text("<html>not found</html>")
    config = tiny.filled(narrow(), tmp_path, init=str(path))
    with pytest.raises(Stage2Error, match="weights.pth are no PyTorch checkpoint"):
        check_initial_weights(config)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(Stage2Error, match="no/weights.pth does not exist"):
        tiny.filled(narrow(), tmp_path, init="no/weights.pth")


@pytest.mark.parametrize("name", [MASK_RCNN, MASK2FORMER, SWIN])
def test_random_start_loads_nothing_and_freezes_nothing(name, tmp_path):
    config = tiny.filled(get_config(name), tmp_path, init="random")
    assert not [n for n in nodes(config.model) if n.get("init_cfg")]
    backbone = MODELS.build(config.model.backbone)
    backbone.train()
    assert all(value.requires_grad for value in backbone.parameters())
    norms = [m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(norm.training for norm in norms)
    assert "random" in check_initial_weights(config)


def test_heads_keep_their_own_random_start(tmp_path):
    config = get_config(MASK_RCNN)
    start = {"type": "Normal", "layer": "Conv2d", "std": 0.01}
    config.model.roi_head.mask_head.init_cfg = start
    config = tiny.filled(config, tmp_path, init="random")
    assert config.model.roi_head.mask_head.init_cfg == start


def test_without_a_choice_the_start_is_the_config_s(tmp_path):
    config = tiny.filled(get_config(MASK_RCNN), tmp_path, init=None)
    assert config.model.backbone == get_config(MASK_RCNN).model.backbone


def test_start_that_needs_a_missing_torchvision_says_what_to_give(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    config = tiny.filled(get_config(MASK_RCNN), tmp_path, init=None)
    with pytest.raises(Stage2Error, match="torchvision://resnet50, which needs torchv"):
        check_initial_weights(config)


def test_start_from_an_address_is_left_to_the_network(tmp_path):
    config = tiny.filled(get_config(SWIN), tmp_path, init=None)
    assert "starts from https://" in check_initial_weights(config)
