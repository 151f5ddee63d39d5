"""What `fill` makes of configs: mmdet's own ones, and changed ones."""

import copy
import functools

import numpy as np
import pytest
import tiny
from mmdet.registry import DATASETS
from mmengine.hub import get_config
from mmengine.registry import DefaultScope
from pycocotools import mask as coco_mask

from exits_jax.stage2.errors import Stage2Error
from exits_jax.stage2.mmdet_config.fill import batch_note
from exits_jax.stage2.mmdet_config.nodes import nodes, type_name

MASK_RCNN = "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"
CONDINST = "condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py"
MASK2FORMER = "mask2former/mask2former_r50_8xb2-lsj-50e_coco.py"
PANOPTIC = "mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py"
CASCADE = "cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py"
LVIS = "lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py"
RTMDET = "rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py"  # polygons, a second pipeline
REPEATED = "mask_rcnn/mask-rcnn_r50_fpn_8xb8-amp-lsj-200e_coco.py"
BOXES = "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
SEMANTIC = "htc/htc_r50_fpn_1x_coco.py"
STOCK = [MASK_RCNN, CONDINST, MASK2FORMER, CASCADE, LVIS, RTMDET, REPEATED]


@functools.cache
def read(name):
    return get_config(f"mmdet::{name}")


def stock(name):
    """A config of mmdet, to change at will."""
    return copy.deepcopy(read(name))


def training_set(config):
    [dataset] = [n for n in nodes(config.train_dataloader) if "ann_file" in n]
    return dataset


def annotation_loaders(tree):
    return [node for node in nodes(tree) if type_name(node) == "LoadAnnotations"]


@pytest.mark.parametrize("name", STOCK)
def test_fill_leaves_the_given_config_as_it_is(name, tmp_path):
    given = stock(name)
    tiny.filled(given, tmp_path)
    assert given.to_dict() == read(name).to_dict()


@pytest.mark.parametrize("name", STOCK)
def test_filled_config_can_be_written_and_read_again(name, tmp_path):
    config = tiny.filled(stock(name), tmp_path)
    config.dump(tmp_path / "config.py")
    again = type(config).fromfile(tmp_path / "config.py")
    assert again.to_dict() == config.to_dict()


@pytest.mark.parametrize("name", STOCK)
def test_all_data_sets_read_the_given_files(name, tmp_path):
    changes = {
        "train": tmp_path / "train.json",
        "images": tmp_path / "a",
        "val": tmp_path / "val.json",
        "val_images": tmp_path / "b",
    }
    config = tiny.filled(stock(name), tmp_path, **changes)
    for loader, path, images in [
        ("train_dataloader", "train.json", "a"),
        ("val_dataloader", "val.json", "b"),
        ("test_dataloader", "val.json", "b"),
    ]:
        [dataset] = [n for n in nodes(config[loader]) if "ann_file" in n]
        assert dataset.ann_file == str(tmp_path / path)
        assert dataset.data_root == ""
        assert dataset.data_prefix == {"img": str(tmp_path / images)}
        assert dataset.metainfo.classes == tiny.CLASSES
    for judge in (config.val_evaluator, config.test_evaluator):
        assert judge.ann_file == str(tmp_path / "val.json")
        assert judge.metric == "segm"
        assert judge.outfile_prefix == str(tmp_path / "work/detections")
    assert config.work_dir == str(tmp_path / "work")


@pytest.mark.parametrize("name", STOCK)
def test_every_training_pipeline_reads_masks_as_bitmaps(name, tmp_path):
    config = tiny.filled(stock(name), tmp_path)
    found = annotation_loaders([config.train_dataloader, config.get("custom_hooks")])
    assert found and all(each.poly2mask is True for each in found)


def test_second_pipeline_of_a_hook_is_found_too(tmp_path):
    config = tiny.filled(stock(RTMDET), tmp_path)
    assert annotation_loaders(stock(RTMDET).custom_hooks)[0].poly2mask is False
    assert annotation_loaders(config.custom_hooks)[0].poly2mask is True


def test_lvis_keeps_its_data_set_its_sampling_and_its_metric(tmp_path):
    config = tiny.filled(stock(LVIS), tmp_path)
    outer = config.train_dataloader.dataset
    assert (outer.type, outer.dataset.type) == ("ClassBalancedDataset", "LVISV1Dataset")
    assert config.val_evaluator.type == config.test_evaluator.type == "LVISMetric"
    assert tiny.filled(stock(MASK_RCNN), tmp_path).val_evaluator.type == "CocoMetric"


def test_data_set_is_found_inside_of_several_wrappers(tmp_path):
    config = stock(MASK_RCNN)
    inner = config.train_dataloader.dataset
    joined = {"type": "ConcatDataset", "datasets": [inner]}
    config.train_dataloader.dataset = {"type": "RepeatDataset", "dataset": joined}
    config = tiny.filled(config, tmp_path)
    assert training_set(config).ann_file == str(tmp_path / "pseudo_masks.json")


def test_several_joined_training_sets_are_refused(tmp_path):
    config = stock(MASK_RCNN)
    inner = config.train_dataloader.dataset
    joined = {"type": "ConcatDataset", "datasets": [inner, copy.deepcopy(inner)]}
    config.train_dataloader.dataset = joined
    with pytest.raises(Stage2Error, match="train_dataloader .* joins 2 data sets"):
        tiny.filled(config, tmp_path)


def test_images_of_any_size_are_kept_and_empty_ones_as_the_config_says(tmp_path):
    kept = training_set(tiny.filled(stock(MASK_RCNN), tmp_path)).filter_cfg
    assert kept == {"filter_empty_gt": True, "min_size": 0}
    config = stock(MASK_RCNN)
    config.train_dataloader.dataset.filter_cfg = None
    assert training_set(tiny.filled(config, tmp_path)).filter_cfg is None


@pytest.mark.parametrize("name", [CONDINST, RTMDET])
def test_object_of_four_parts_is_loaded_pixel_by_pixel_where_polygons_were(
    name, tmp_path
):
    content = tiny.read(tiny.draw(tmp_path, number=1))
    dataset = dict(training_set(tiny.filled(stock(name), tmp_path)))
    loading = [n for n in dataset["pipeline"] if type_name(n).startswith("Load")]
    with DefaultScope.overwrite_default_scope("mmdet"):
        loaded = DATASETS.build(dataset | {"pipeline": loading})[0]
    assert len(loaded["gt_masks"]) == 3 and not loaded["gt_ignore_flags"].any()
    for mask, record in zip(loaded["gt_masks"].masks, content["annotations"]):
        np.testing.assert_array_equal(mask, coco_mask.decode(record["segmentation"]))


@pytest.mark.parametrize("name", STOCK)
def test_no_part_of_a_model_counts_other_classes(name, tmp_path):
    model = tiny.filled(stock(name), tmp_path).model
    counts = [
        node[key]
        for node in nodes(model, leave_out=("rpn_head",))
        for key in ("num_classes", "num_things_classes")
        if key in node
    ]
    assert counts and set(counts) == {3}
    assert all(node.get("num_stuff_classes", 0) == 0 for node in nodes(model))


def test_each_stage_of_a_cascade_has_the_classes(tmp_path):
    head = tiny.filled(stock(CASCADE), tmp_path).model.roi_head
    assert [stage.num_classes for stage in head.bbox_head] == [3, 3, 3]
    assert head.mask_head.num_classes == 3


def test_class_weights_keep_that_of_no_object(tmp_path):
    head = tiny.filled(stock(MASK2FORMER), tmp_path).model.panoptic_head
    assert head.loss_cls.class_weight == [1.0, 1.0, 1.0, 0.1]


def test_weights_that_differ_between_classes_are_refused(tmp_path):
    config = stock(MASK2FORMER)
    config.model.panoptic_head.loss_cls.class_weight[5] = 2.0
    with pytest.raises(Stage2Error, match="CrossEntropyLoss .* 80 classes differently"):
        tiny.filled(config, tmp_path)


def test_head_that_counts_by_default_is_told_the_classes(tmp_path):
    config = stock(MASK_RCNN)
    del config.model.roi_head.mask_head["num_classes"]
    head = tiny.filled(config, tmp_path).model.roi_head.mask_head
    assert head.num_classes == 3


def test_proposals_stay_without_classes(tmp_path):
    config = stock(MASK_RCNN)
    config.model.rpn_head.num_classes = 1
    model = tiny.filled(config, tmp_path).model
    assert model.rpn_head.num_classes == 1
    assert "num_classes" not in tiny.filled(stock(MASK_RCNN), tmp_path).model.rpn_head


@pytest.mark.parametrize(
    "name, said",
    [
        (BOXES, "does not load masks"),
        (PANOPTIC, "train_dataloader .* as CocoPanopticDataset; expected CocoDataset"),
        (SEMANTIC, "semantic maps"),
        ("pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py", "joins 2 data sets"),
    ],
)
def test_config_that_cannot_learn_from_masks_is_refused(name, said, tmp_path):
    with pytest.raises(Stage2Error, match=said):
        tiny.filled(stock(name), tmp_path)


def test_unknown_data_set_is_named(tmp_path):
    config = stock(MASK_RCNN)
    config.train_dataloader.dataset.type = "MyDataset"
    with pytest.raises(Stage2Error, match="'MyDataset', which mmdet does not know"):
        tiny.filled(config, tmp_path)


def test_no_classes_are_refused(tmp_path):
    with pytest.raises(Stage2Error, match="No classes"):
        tiny.filled(stock(MASK_RCNN), tmp_path, classes=())


def test_config_without_a_test_set_is_tested_on_the_validation_set(tmp_path):
    config = stock(MASK_RCNN)
    for name in ("test_dataloader", "test_evaluator", "test_cfg"):
        config.pop(name)
    config = tiny.filled(config, tmp_path)
    assert config.test_dataloader == config.val_dataloader
    assert config.test_cfg.type == "TestLoop"


def test_other_batches_than_the_learning_rate_is_for_are_told(tmp_path):
    config = tiny.filled(stock(MASK_RCNN), tmp_path)
    assert batch_note(config, processes=8) is None
    said = "batches of 2, the learning rate 0.02 is for 16"
    assert batch_note(config).startswith(f"{said} and stays")
    config.auto_scale_lr.enable = True
    assert batch_note(config) == f"{said}: it becomes 0.0025"


@pytest.mark.parametrize("name", STOCK)
def test_pixels_are_read_as_they_are_stored_whatever_the_exif_says(name, tmp_path):
    config = tiny.filled(stock(name), tmp_path)
    loaders = [
        n for n in nodes(config._cfg_dict) if type_name(n) == "LoadImageFromFile"
    ]
    assert len(loaders) >= 2
    assert {each.color_type for each in loaders} == {"color_ignore_orientation"}


def test_another_reader_of_images_keeps_what_it_knows(tmp_path):
    given = stock(MASK_RCNN)
    given.train_dataloader.dataset.pipeline[0].imdecode_backend = "turbojpeg"
    config = tiny.filled(given, tmp_path)
    assert "color_type" not in config.train_dataloader.dataset.pipeline[0]
