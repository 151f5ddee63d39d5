"""The detectors of configs/mmdet, as real as they are trained, on no data."""

import ast

import pytest
import tiny
from mmcv.ops import ModulatedDeformConv2dPack
from mmdet.registry import MODELS
from mmengine.config import Config

from exits_jax.stage2.mmdet_config.nodes import nodes, type_name

NAMES = [path.stem for path in tiny.CONFIGS]
ROWS = {
    "solov2_r50_fpn_1x",
    "solov2_r50_fpn_3x",
    "solov2_r101_dcn_fpn_3x",
    "solov2_x101_dcn_fpn_3x",
    "mask2former_swin_s",
    "mask2former_r50",
    "condinst_r50_fpn",
    "condinst_r101_dcn_fpn",
    "mask_rcnn_r50_fpn",
    "lvis_mask_rcnn_x101_32x4d",
    "lvis_mask_rcnn_x101_64x4d",
    "voc_solov2_r50",
    "voc_solov2_r101",
}


def path_of(name):
    return tiny.ROOT / f"configs/mmdet/{name}.py"


def warm_up(name):
    first = Config.fromfile(path_of(name)).param_scheduler[0]
    return first.type, round(1 / first.start_factor), first.end


def test_every_detector_of_the_tables_has_a_config():
    assert set(NAMES) >= ROWS


@pytest.mark.parametrize("path", tiny.CONFIGS, ids=NAMES)
def test_config_inherits_from_mmdet_in_under_thirty_lines_and_says_its_row(path):
    text = path.read_text()
    assert len(text.splitlines()) < 30
    assert '\n_base_ = "mmdet::' in text
    assert "able" in ast.get_docstring(ast.parse(text))  # of Table N, or in no table


@pytest.mark.parametrize("path", tiny.CONFIGS, ids=NAMES)
def test_config_names_neither_files_nor_classes(path):
    names = {
        node.arg
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.keyword)
    }
    assert not names & {"num_classes", "ann_file", "data_root", "data_prefix"}


@pytest.mark.parametrize("path", tiny.CONFIGS, ids=NAMES)
def test_filled_config_reads_masks_and_gives_its_files_and_classes(path, tmp_path):
    config = tiny.filled(path, tmp_path)
    loaders = [
        node
        for node in nodes(config.train_dataloader)
        if type_name(node) == "LoadAnnotations"
    ]
    assert loaders and all(each.poly2mask is True for each in loaders)
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        [dataset] = [n for n in nodes(config[name]) if "ann_file" in n]
        assert dataset.ann_file == str(tmp_path / "pseudo_masks.json")
        assert dataset.metainfo.classes == tiny.CLASSES


@pytest.mark.parametrize("path", tiny.CONFIGS, ids=NAMES)
def test_config_builds_and_every_part_counts_the_three_classes(path, tmp_path):
    model = MODELS.build(tiny.filled(path, tmp_path).model)
    counts = {
        name: module.num_classes
        for name, module in model.named_modules()
        if hasattr(module, "num_classes") and name != "rpn_head"
    }
    assert counts and set(counts.values()) == {3}


@pytest.mark.parametrize(
    "name, expected",
    [
        ("solov2_r50_fpn_3x", ("LinearLR", 3, 500)),
        ("solov2_r101_dcn_fpn_3x", ("LinearLR", 10, 2000)),
        ("solov2_x101_dcn_fpn_3x", ("LinearLR", 30, 1000)),
    ],
)
def test_warm_up_is_that_of_mask_auto_labeler(name, expected):
    assert warm_up(name) == expected


@pytest.mark.parametrize("name", ["solov2_r101_dcn_fpn_3x", "solov2_x101_dcn_fpn_3x"])
def test_another_warm_up_changes_nothing_else_of_the_schedule(name):
    plain = Config.fromfile(path_of("solov2_r50_fpn_3x"))
    assert Config.fromfile(path_of(name)).param_scheduler[1].milestones == [27, 33]
    assert Config.fromfile(path_of(name)).train_cfg == plain.train_cfg


@pytest.mark.parametrize(
    "name, in_head",
    [("condinst_r101_dcn_fpn", False), ("solov2_r101_dcn_fpn_3x", True)],
)
def test_convolutions_of_stages_3_to_5_are_deformable(name, in_head, tmp_path):
    model = MODELS.build(tiny.filled(path_of(name), tmp_path).model)
    found = [
        part
        for part, module in model.named_modules()
        if isinstance(module, ModulatedDeformConv2dPack)
    ]
    blocks = [part for part in found if part.startswith("backbone.")]
    assert len(blocks) == 4 + 23 + 3  # one in each block
    assert not any(part.startswith("backbone.layer1") for part in blocks)
    assert (len(found) > len(blocks)) == in_head
