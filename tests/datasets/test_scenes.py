import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from exits_jax.datasets import scenes

# pycocotools.decode still uses a protocol that NumPy 2 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    scenes.draw_scenes(folder, num_train=60, num_val=4)
    return folder


@pytest.fixture(scope="module")
def train(folder):
    return json.loads((folder / "train.json").read_text())


def masks(dataset):
    return [coco_mask.decode(a["segmentation"]) for a in dataset["annotations"]]


def is_separated(mask):
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    return (stats[1:, cv2.CC_STAT_AREA] >= 0.05 * mask.sum()).sum() >= 2


def test_every_record_has_its_image_in_the_stated_size(folder, train):
    assert len(train["images"]) == 60
    for record in train["images"]:
        image = cv2.imread(str(folder / "train" / record["file_name"]))
        assert image.shape == (record["height"], record["width"], 3) == (160, 160, 3)


def test_box_and_area_belong_to_the_mask(train):
    for annotation, mask in zip(train["annotations"], masks(train)):
        ys, xs = np.nonzero(mask)
        box = [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
        assert annotation["bbox"] == box
        assert annotation["area"] == mask.sum()


def test_all_five_classes_occur_and_their_ids_have_gaps(train):
    used = {annotation["category_id"] for annotation in train["annotations"]}
    assert used == {c["id"] for c in train["categories"]}
    assert sorted(used) != list(range(1, 6))


def test_about_a_third_of_the_objects_is_separated(train):
    share = np.mean([is_separated(mask) for mask in masks(train)])
    assert 0.2 < share < 0.5


def test_objects_of_one_scene_do_not_touch(train):
    for image in train["images"]:
        total = np.zeros((160, 160), np.uint8)
        for annotation, mask in zip(train["annotations"], masks(train)):
            if annotation["image_id"] == image["id"]:
                total += cv2.dilate(mask, np.ones((3, 3), np.uint8))
        assert total.max() == 1


def test_the_bar_that_separates_an_object_is_not_part_of_its_mask():
    for index in range(20):
        rng = np.random.default_rng(index)
        objects = scenes._add_bars(scenes._place_objects(rng, 160), rng, 160)
        _, drawn = scenes.draw_scene(np.random.default_rng(index), 160)
        for item, (_, mask) in zip(objects, drawn):
            assert is_separated(mask.astype(np.uint8)) == (item.bar is not None)
            if item.bar is not None:
                assert not mask[item.bar >= 0.5].any()


def test_the_same_seed_draws_the_same_files_and_another_seed_does_not(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        scenes.draw_scenes(tmp_path / name, num_train=1, num_val=1, seed=seed)
    for file in ("train/000001.png", "val/000001.png", "train.json"):
        first = (tmp_path / "a" / file).read_bytes()
        assert first == (tmp_path / "b" / file).read_bytes()
        assert first != (tmp_path / "c" / file).read_bytes()


def test_training_and_validation_scenes_differ(folder):
    first = (folder / "train" / "000001.png").read_bytes()
    assert first != (folder / "val" / "000001.png").read_bytes()


def test_finished_scenes_are_left_alone_and_other_parameters_draw_again(tmp_path):
    scenes.draw_scenes(tmp_path, num_train=1, num_val=1)
    (tmp_path / "train.json").write_text("kept")
    scenes.draw_scenes(tmp_path, num_train=1, num_val=1)
    assert (tmp_path / "train.json").read_text() == "kept"
    scenes.draw_scenes(tmp_path, num_train=2, num_val=1)
    assert len(json.loads((tmp_path / "train.json").read_text())["images"]) == 2


def test_an_interrupted_drawing_is_finished_by_the_next_call(tmp_path):
    scenes.draw_scenes(tmp_path, num_train=1, num_val=1)
    (tmp_path / "scenes.json").unlink()
    (tmp_path / "train.json").write_text("{")
    scenes.draw_scenes(tmp_path, num_train=1, num_val=1)
    assert json.loads((tmp_path / "train.json").read_text())["annotations"]


@pytest.mark.parametrize("wrong", [{"size": 64}, {"num_val": -1}])
def test_refuses_impossible_parameters(tmp_path, wrong):
    with pytest.raises(ValueError, match="too small|must not be negative"):
        scenes.draw_scenes(tmp_path, **wrong)
