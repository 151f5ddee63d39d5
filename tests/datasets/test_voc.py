import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exits_jax.data.annotations import read_instances
from exits_jax.data.masks import decode_mask
from exits_jax.data.records import AnnotationError
from exits_jax.datasets import voc
from exits_jax.datasets.sbd import read_mat
from exits_jax.datasets.voc import summary_line, voc_source
from exits_jax.datasets.voc_masks import read_voc_masks
from tests.support.voc_tree import (
    PLAIN,
    TWO,
    Tree,
    classes_of,
    write_jpeg,
    write_mat,
    write_png,
)


@pytest.fixture
def tree(tmp_path):
    made = Tree(tmp_path)
    made.add_voc("2007_000027", "val", "sbd/train")
    made.add_voc("2008_000002", "train", "sbd/train", classes=(1, 2))
    made.add_sbd("2008_000002", classes=(3, 4))  # VOC has masks of its own for it
    made.add_sbd("2008_000001", "sbd/train")
    made.add_sbd("2008_000003", "sbd/val", folder="img")
    return made


def masks_of(found, image_id):
    sizes = {i["id"]: (i["height"], i["width"]) for i in found.source["images"]}
    return {
        record["category_id"]: decode_mask(record["segmentation"], *sizes[image_id])
        for record in found.source["annotations"]
        if record["image_id"] == image_id
    }


# The splits


def test_val_has_the_instances_of_the_pngs_without_their_void_border(tree):
    found = tree.read("val")
    assert [image["id"] for image in found.source["images"]] == [2007000027]
    masks = masks_of(found, 2007000027)
    np.testing.assert_array_equal(masks[5], TWO == 1)
    np.testing.assert_array_equal(masks[15], TWO == 2)
    assert len(masks) == 2
    assert found.problems == []


def test_box_and_area_are_those_of_the_mask(tree):
    first, second = tree.read("val").source["annotations"]
    assert (first["bbox"], first["area"]) == ([3, 2, 6, 6], 36)
    assert (second["bbox"], second["area"]) == ([12, 10, 16, 8], 128)
    assert first["iscrowd"] == second["iscrowd"] == 0


def test_train_is_voc_alone(tree):
    images = tree.read("train").source["images"]
    assert [image["id"] for image in images] == [2008000002]


def test_train_aug_is_the_union_without_val(tree):
    images = tree.read("train_aug").source["images"]
    assert [i["id"] for i in images] == [2008000001, 2008000002, 2008000003]


def test_masks_of_voc_win_over_those_of_sbd(tree):
    masks = masks_of(tree.read("train_aug"), 2008000002)
    np.testing.assert_array_equal(masks[1], TWO == 1)
    assert set(masks) == {1, 2}


def test_masks_of_sbd_serve_the_other_images(tree):
    masks = masks_of(tree.read("train_aug"), 2008000001)
    assert set(masks) == {7, 20}
    assert masks[7][1:9, 1:9].all() and masks[7].sum() == 64


def test_images_come_from_voc_and_only_else_from_sbd(tree):
    write_jpeg(tree.sbd / "dataset" / "img" / "2008_000001.jpg")
    found = tree.read("train_aug")
    assert found.image_root == tree.devkit.parent.resolve()
    assert [image["file_name"] for image in found.source["images"]] == [
        "VOCdevkit/VOC2012/JPEGImages/2008_000001.jpg",
        "VOCdevkit/VOC2012/JPEGImages/2008_000002.jpg",
        "benchmark_RELEASE/dataset/img/2008_000003.jpg",
    ]


@pytest.mark.parametrize("folder", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_every_level_of_the_devkit_will_do(tree, folder):
    found = voc_source(tree.devkit.parent / folder, "val")
    assert found.image_root == tree.voc.resolve()
    (image,) = found.source["images"]
    assert image["file_name"] == "JPEGImages/2007_000027.jpg"


@pytest.mark.parametrize(
    "folder", ["", "benchmark_RELEASE", "benchmark_RELEASE/dataset"]
)
def test_every_level_of_sbd_will_do(tree, folder):
    found = voc_source(tree.devkit, "train_aug", tree.devkit.parent / folder)
    assert len(found.source["images"]) == 3


def test_ids_are_numbered_by_image_name_whatever_the_order_of_the_list(tree):
    before = tree.read("train_aug").source
    tree.lists["sbd/train"].reverse()
    tree.list("2008_000001", "sbd/train")  # listed twice
    after = tree.read("train_aug", num_threads=3).source
    assert after == before
    assert [record["id"] for record in after["annotations"]] == [1, 2, 3, 4, 5, 6]
    assert [r["image_id"] for r in after["annotations"]] == sorted(
        r["image_id"] for r in after["annotations"]
    )


def test_name_of_another_form_is_its_own_id(tree):
    tree.add_voc("000000000127", "val")
    images = tree.read("val").source["images"]
    assert [image["id"] for image in images] == ["000000000127", 2007000027]


def test_categories_are_the_classes_of_voc_in_order(tree):
    categories = tree.read("val").source["categories"]
    assert [category["id"] for category in categories] == list(range(1, 21))
    assert categories[0]["name"] == "aeroplane"
    assert categories[14]["name"] == "person"
    assert categories[19]["name"] == "tvmonitor"


def test_the_reader_of_annotations_takes_the_result(tree, tmp_path):
    found = tree.read("train_aug")
    path = tmp_path / "train.json"
    path.write_text(json.dumps(found.source))
    read = read_instances(path, found.image_root)
    assert len(read.instances) == 6
    assert read.skipped == []


# Numbers beside the published ones


def test_line_for_people_names_the_published_number(tree):
    assert summary_line(tree.read("train_aug")) == (
        "train_aug: 3 images (the published set has 10,582), 6 instances"
    )


def test_other_numbers_than_the_published_ones_are_a_warning(tree):
    assert tree.read("val").warnings == [
        "val lists 1 images; the published set has 1,449."
    ]
    assert tree.read("train_aug").warnings == [
        "SBD lists 4 images; the published set has 11,355.",
        "train_aug lists 3 images; the published set has 10,582.",
    ]


def test_the_published_numbers_pass_without_a_warning(tree, monkeypatch):
    monkeypatch.setitem(voc.PUBLISHED_IMAGES, "train_aug", 3)
    monkeypatch.setattr(voc, "PUBLISHED_SBD_IMAGES", 4)
    assert tree.read("train_aug").warnings == []


# Palette PNGs


def read_pair(tmp_path, numbers, labels, palette=None):
    write_png(tmp_path / "object.png", numbers, palette)
    write_png(tmp_path / "class.png", labels, palette)
    return read_voc_masks(
        tmp_path / "object.png", tmp_path / "class.png", numbers.shape
    )


def test_indices_are_read_and_never_colours(tmp_path):
    numbers, classes = read_pair(
        tmp_path, TWO, classes_of(TWO, (5, 15)), palette=[200] * 768
    )
    np.testing.assert_array_equal(numbers, np.where(TWO == 255, 0, TWO))
    assert classes == {1: 5, 2: 15}


def test_class_of_an_instance_is_that_of_most_of_its_pixels(tmp_path):
    labels = classes_of(TWO, (5, 15))
    labels[2, 3:9] = 8  # its first row
    labels[3:6, 3:9] = 0  # more background than anything else
    assert read_pair(tmp_path, TWO, labels)[1] == {1: 5, 2: 15}


def test_of_equally_frequent_classes_the_first_counts(tmp_path):
    labels = classes_of(TWO, (9, 15))
    labels[2:5, 3:9] = 4
    assert read_pair(tmp_path, TWO, labels)[1][1] == 4


def test_grey_png_of_indices_is_as_good(tmp_path):
    for name, values in (("o.png", TWO), ("c.png", classes_of(TWO, (1, 2)))):
        Image.fromarray(values).save(tmp_path / name)
    _, classes = read_voc_masks(tmp_path / "o.png", tmp_path / "c.png", TWO.shape)
    assert classes == {1: 1, 2: 2}


def test_instance_of_one_pixel_is_found(tmp_path):
    numbers = np.zeros((4, 4), np.uint8)
    numbers[3, 3] = 254
    assert read_pair(tmp_path, numbers, np.where(numbers, 20, numbers))[1] == {254: 20}


# Faults


def _unlink(relative):
    return lambda tree: (tree.voc / relative).unlink()


def _cut(relative):
    def change(tree):
        path = tree.devkit.parent / relative
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return change


def _png(folder, indices, **options):
    def change(tree):
        write_png(tree.voc / folder / "2008_000002.png", indices, **options)

    return change


def _as_colours(tree):
    path = tree.voc / "SegmentationObject" / "2008_000002.png"
    Image.open(path).convert("RGB").save(path)


def _text_as_png(tree):
    (tree.voc / "SegmentationObject" / "2008_000002.png").write_text("not a PNG" * 9)


def _text_as_jpeg(tree):
    (tree.voc / "JPEGImages" / "2008_000002.jpg").write_text("not a JPEG")


def _mat(segmentation, categories):
    def change(tree):
        path = tree.sbd / "dataset" / "inst" / "2008_000001.mat"
        write_mat(path, segmentation, categories)

    return change


def _no_mat(tree):
    (tree.sbd / "dataset" / "inst" / "2008_000001.mat").unlink()


VOC_IMAGE, SBD_IMAGE = "2008_000002", "2008_000001"
IMAGE_FAULTS = {
    "object png": (
        _unlink(f"SegmentationObject/{VOC_IMAGE}.png"),
        VOC_IMAGE,
        "E111",
        "SegmentationObject.* does not exist",
    ),
    "class png": (_unlink(f"SegmentationClass/{VOC_IMAGE}.png"), VOC_IMAGE, "E111", ""),
    "image": (
        _unlink(f"JPEGImages/{VOC_IMAGE}.jpg"),
        VOC_IMAGE,
        "E111",
        "JPEGImages.*img",
    ),
    "mat": (_no_mat, SBD_IMAGE, "E111", "inst"),
    "cut png": (
        _cut(f"VOCdevkit/VOC2012/SegmentationObject/{VOC_IMAGE}.png"),
        VOC_IMAGE,
        "E113",
        "damaged or truncated PNG",
    ),
    "cut mat": (
        _cut(f"benchmark_RELEASE/dataset/inst/{SBD_IMAGE}.mat"),
        SBD_IMAGE,
        "E113",
        "damaged or truncated MATLAB",
    ),
    "cut image": (
        _text_as_jpeg,
        VOC_IMAGE,
        "E113",
        "not an image",
    ),
    "colours": (_as_colours, VOC_IMAGE, "E113", "mode RGB; expected palette"),
    "text": (_text_as_png, VOC_IMAGE, "E113", "is not a PNG"),
    "class png of another size": (
        _png("SegmentationClass", np.zeros((20, 29), np.uint8)),
        VOC_IMAGE,
        "E110",
        "29x20 px, but its image 30x20",
    ),
    "object png of another size": (
        _png("SegmentationObject", np.zeros((30, 20), np.uint8)),
        VOC_IMAGE,
        "E110",
        "20x30 px",
    ),
    "image of another size": (
        lambda tree: write_jpeg(tree.voc / f"JPEGImages/{SBD_IMAGE}.jpg", (31, 20)),
        SBD_IMAGE,
        "E110",
        "30x20 px, but its image 31x20",
    ),
}


@pytest.mark.parametrize("case", IMAGE_FAULTS)
def test_image_with_a_fault_is_left_out_and_named(tree, case):
    change, name, code, words = IMAGE_FAULTS[case]
    before = tree.read("train_aug")
    change(tree)
    found = tree.read("train_aug")
    (problem,) = found.problems
    assert problem.code == code
    assert problem.message.startswith(f"Image '{name}': ")
    assert re.search(words, problem.message)
    identity = int(name.replace("_", ""))
    assert found.source["images"] == [
        image for image in before.source["images"] if image["id"] != identity
    ]
    kept = [r for r in before.source["annotations"] if r["image_id"] != identity]
    without_id = lambda rows: [{**row, "id": None} for row in rows]
    assert without_id(found.source["annotations"]) == without_id(kept)
    assert summary_line(found).endswith("4 instances, 1 problems")


INSTANCE_FAULTS = {
    "background": (
        _png("SegmentationClass", classes_of(TWO, (0, 2))),
        "E213",
        "instance 1: all its pixels are void or background",
    ),
    "void": (
        _png("SegmentationClass", classes_of(TWO, (255, 2))),
        "E213",
        "instance 1: all its pixels are void or background",
    ),
    "class of png": (
        _png("SegmentationClass", classes_of(TWO, (21, 2))),
        "E108",
        "instance 1: its class is 21; expected 1 to 20",
    ),
    "class of mat": (_mat(PLAIN, (21, 2)), "E108", "instance 1: its class is 21"),
    "class 0 of mat": (_mat(PLAIN, (0, 2)), "E108", "instance 1: its class is 0"),
    "no class in mat": (_mat(PLAIN, (3,)), "E108", "instance 2: .* no entry"),
    "no pixels in mat": (
        _mat(np.where(PLAIN == 1, 0, PLAIN), (3, 4)),
        "E213",
        "instance 1: it has no pixel",
    ),
}


@pytest.mark.parametrize("case", INSTANCE_FAULTS)
def test_instance_with_a_fault_is_left_out_alone(tree, case):
    change, code, words = INSTANCE_FAULTS[case]
    change(tree)
    told = []
    found = tree.read("train_aug", on_problem=told.append)
    (problem,) = found.problems
    assert told == [problem]
    assert problem.code == code
    assert re.search(words, problem.message)
    assert len(found.source["images"]) == 3
    assert [record["id"] for record in found.source["annotations"]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "a b", "..", "x\0y"])
def test_unsafe_name_is_never_opened(tree, name):
    tree.list(name, "val")
    (problem,) = tree.read("val").problems
    assert problem.code == "E112"


def test_unknown_split_lists_the_choices(tree):
    with pytest.raises(ValueError, match="'test'; choose one of train, val, train_aug"):
        voc_source(tree.devkit, "test")


def test_train_aug_asks_for_sbd(tree):
    with pytest.raises(ValueError, match="train_aug needs sbd"):
        voc_source(tree.devkit, "train_aug")


def test_folders_and_lists_that_are_missing_are_named(tree, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder ImageSets in any of"):
        voc_source(tmp_path / "nowhere", "val")
    with pytest.raises(FileNotFoundError, match="no folder inst in any of"):
        voc_source(tree.devkit, "train_aug", tmp_path / "nowhere")
    (tree.sbd / "dataset" / "val.txt").unlink()
    with pytest.raises(FileNotFoundError, match="image list .*val.txt does not exist"):
        tree.read("train_aug")


def test_list_that_is_no_text_is_refused(tree):
    path = tree.voc / "ImageSets" / "Segmentation" / "val.txt"
    path.write_bytes(b"\xff\xfe2\x000")
    with pytest.raises(AnnotationError, match="is not UTF-8") as caught:
        tree.read("val")
    assert caught.value.problems[0].code == "E101"


# Real layouts


@pytest.fixture
def formats():
    if not os.environ.get("EXITS_DATA"):
        pytest.skip("EXITS_DATA, the folder of test data, is not set")
    return Path(os.environ["EXITS_DATA"]) / "formats"


def test_layouts_of_voc_and_sbd_are_read_without_a_problem(formats):
    sbd = formats / "sbd_layout"
    for split, images, instances in (
        ("train", 5, 13),
        ("val", 5, 15),
        ("train_aug", 5, 13),
    ):
        found = voc_source(formats / "voc_layout" / "VOCdevkit", split, sbd)
        assert len(found.source["images"]) == images
        assert len(found.source["annotations"]) == instances
        assert found.problems == []
        for image in found.source["images"]:
            assert (found.image_root / image["file_name"]).is_file()


def test_masks_of_sbd_are_those_of_voc_with_their_border(formats):
    voc_folder = formats / "voc_layout" / "VOCdevkit" / "VOC2012"
    paths = sorted((formats / "sbd_layout" / "dataset" / "inst").glob("*.mat"))
    assert len(paths) == 4
    for path in paths:
        theirs, their_classes = read_mat(path)
        ours, our_classes = read_voc_masks(
            voc_folder / "SegmentationObject" / f"{path.stem}.png",
            voc_folder / "SegmentationClass" / f"{path.stem}.png",
            theirs.shape,
        )
        assert sorted(their_classes.values()) == sorted(our_classes.values())
        inside = ours > 0
        assert (theirs[inside] > 0).mean() > 0.99
        assert (theirs > 0).sum() > inside.sum()


def test_exported_pngs_hold_the_masks_of_their_polygons(formats):
    folder = formats / "labelme_example"
    source = json.loads((folder / "data_dataset_coco" / "annotations.json").read_text())
    compared = 0
    for image in source["images"]:
        size = image["height"], image["width"]
        stem = Path(image["file_name"]).stem
        pngs = [
            folder / "data_dataset_voc" / name / f"{stem}.png"
            for name in ("SegmentationObject", "SegmentationClass")
        ]
        numbers, _ = read_voc_masks(*pngs, size)
        for record in source["annotations"]:
            if record["image_id"] != image["id"]:
                continue
            mask = decode_mask(record["segmentation"], *size)
            inside = numbers[mask]
            number = np.bincount(inside[inside > 0]).argmax()
            union = (mask | (numbers == number)).sum()
            compared += (mask & (numbers == number)).sum() / union > 0.9
    assert compared >= 9
