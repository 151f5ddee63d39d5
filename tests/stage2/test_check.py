import drawn
import numpy as np
import pytest
from mmdet.utils import register_all_modules
from mmengine.config import Config
from pycocotools import mask as coco_mask

from exits_jax.stage2.errors import Stage2Error
from exits_jax.stage2.inputs.annotations import read_coco
from exits_jax.stage2.inputs.check import check_model, check_training_set, count

LOAD = [
    {"type": "LoadImageFromFile"},
    {
        "type": "LoadAnnotations",
        "with_bbox": True,
        "with_mask": True,
        "poly2mask": True,
    },
]
PACK = {"type": "PackDetInputs"}


@pytest.fixture(autouse=True)
def registered():
    register_all_modules(init_default_scope=True)


@pytest.fixture
def content(tmp_path):
    return drawn.write(tmp_path)


def config_for(tmp_path, name="train.json", steps=(), **further):
    dataset = {
        "type": "CocoDataset",
        "ann_file": str(tmp_path / name),
        "data_prefix": {"img": str(tmp_path / "images")},
        "metainfo": {"classes": drawn.CLASSES},
        "filter_cfg": {"filter_empty_gt": True, "min_size": 32},
        "pipeline": [*LOAD, *steps, PACK],
    }
    return Config({"train_dataloader": {"dataset": dataset | further}})


def changed(tmp_path, content):
    return read_coco(drawn.save(tmp_path / "changed.json", content))


def test_every_object_of_a_good_file_is_learnt_from(tmp_path, content):
    counts = check_training_set(
        config_for(tmp_path), read_coco(tmp_path / "train.json")
    )
    assert counts == (6, 6, 12, 0, 12, 0, 0, 0, 0)
    assert counts.line().startswith("12 of 12 objects on 6 of 6 images are learnt from")


def test_masks_of_two_and_four_parts_reach_the_model_with_all_their_pixels(
    tmp_path, content
):
    from mmdet.registry import DATASETS

    dataset = DATASETS.build(config_for(tmp_path).train_dataloader.dataset)
    told = {record["id"]: record for record in content["annotations"]}
    for place in range(len(dataset)):
        inputs = dataset[place]
        sample = inputs["data_samples"]
        masks = sample.gt_instances.masks.masks
        for mask, number in zip(masks, (2 * sample.img_id, 2 * sample.img_id + 1)):
            expected = coco_mask.decode(told[number]["segmentation"])
            np.testing.assert_array_equal(mask, expected)
            assert mask.sum() == told[number]["area"]
        assert len(sample.ignored_instances.masks) == 0


def test_poly2mask_false_is_caught_with_counts_and_its_cure(tmp_path, content):
    config = config_for(tmp_path)
    config.train_dataloader.dataset.pipeline[1].poly2mask = False
    with pytest.raises(Stage2Error) as found:
        check_training_set(config, read_coco(tmp_path / "train.json"))
    assert "of 12 objects, 12 ignored (id 2, 3, 4)" in str(found.value)
    assert "poly2mask=False) ignores RLE masks: set it to True" in str(found.value)


def test_crowd_regions_are_ignored_by_design(tmp_path, content):
    content["annotations"][0]["iscrowd"] = 1
    coco = changed(tmp_path, content)
    counts, _ = count(config_for(tmp_path, "changed.json"), coco)
    assert (counts.objects, counts.crowd, counts.read) == (11, 1, 11)


DROPPED = {
    "empty": {"area": 0},
    "outside": {"bbox": [200.0, 200.0, 10.0, 10.0]},
    "thin": {"bbox": [8.0, 10.0, 0.5, 30.0]},
    "ignored by its own field": {"ignore": True},
}


@pytest.mark.parametrize("fault", DROPPED)
def test_an_object_that_mmdet_drops_is_named(tmp_path, content, fault):
    content["annotations"][5] |= DROPPED[fault]
    coco = changed(tmp_path, content)
    with pytest.raises(Stage2Error, match=r"of 12 objects, 1 dropped \(id 7\)"):
        check_training_set(config_for(tmp_path, "changed.json"), coco)


def test_objects_of_images_that_are_filtered_out_are_named(tmp_path, content):
    config = config_for(tmp_path, filter_cfg={"min_size": 100})
    with pytest.raises(
        Stage2Error, match=r"12 filtered \(id 2, 3, 4\).*min_size is too"
    ):
        check_training_set(config, read_coco(tmp_path / "train.json"))


def test_a_mask_of_another_size_than_its_image_is_named(tmp_path, content):
    small = drawn.parts((0, 0, 9, 9), size=(10, 10))
    content["annotations"][0]["segmentation"] = drawn.rle(small)
    coco = changed(tmp_path, content)
    with pytest.raises(Stage2Error, match=r"2 changed \(id 2, 3\)"):
        check_training_set(config_for(tmp_path, "changed.json"), coco)


@pytest.mark.parametrize("kind", ["counts as a list", "polygon"])
def test_other_forms_of_masks_are_read_with_the_same_pixels(tmp_path, content, kind):
    if kind == "polygon":
        mask = [[8, 10, 30, 10, 30, 40, 8, 40], [40, 10, 60, 10, 60, 40, 40, 40]]
    else:
        pixels = drawn.parts((8, 10, 30, 40), (40, 10, 60, 40)).flatten(order="F")
        starts = np.flatnonzero(np.diff(pixels, prepend=False))
        counts = np.diff([0, *starts, pixels.size])
        mask = {"size": list(drawn.SIZE), "counts": [int(n) for n in counts]}
    content["annotations"][0]["segmentation"] = mask
    counts, _ = count(config_for(tmp_path, "changed.json"), changed(tmp_path, content))
    assert counts.read == 12


@pytest.mark.parametrize("wrapper", ["ClassBalancedDataset", "RepeatDataset"])
def test_the_data_set_is_found_below_wrappers(tmp_path, content, wrapper):
    config = config_for(tmp_path)
    inner = config.train_dataloader.dataset
    config.train_dataloader.dataset = {"type": wrapper, "dataset": inner}
    counts, _ = count(config, read_coco(tmp_path / "train.json"))
    assert counts.read == 12


def test_a_pipeline_without_masks_is_an_error(tmp_path, content):
    config = config_for(tmp_path)
    config.train_dataloader.dataset.pipeline[1].with_mask = False
    with pytest.raises(Stage2Error, match="no LoadAnnotations with with_mask=True"):
        check_training_set(config, read_coco(tmp_path / "train.json"))


def test_a_transform_that_fails_is_an_error_that_names_the_image(tmp_path, content):
    config = config_for(tmp_path, steps=[{"type": "CopyPaste"}])
    with pytest.raises(Stage2Error, match="fails on .*001.jpg: AssertionError"):
        check_training_set(config, read_coco(tmp_path / "train.json"))


def test_a_model_that_cannot_be_built_is_an_error(tmp_path, content):
    config = config_for(tmp_path)
    config.model = {"type": "MaskRCNN"}
    with pytest.raises(Stage2Error, match="cannot be built: TypeError: .*rpn_head"):
        check_model(config)
