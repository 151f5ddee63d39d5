import copy
import json

import drawn
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from exits_jax.stage2.errors import Stage2Error
from exits_jax.stage2.inputs.annotations import (
    check_image_files,
    check_masks,
    check_same_classes,
    read_coco,
)
from exits_jax.stage2.inputs.derived import write_box_masks, write_single_class


@pytest.fixture
def content(tmp_path):
    return drawn.write(tmp_path)


def saved(tmp_path, content):
    return drawn.save(tmp_path / "changed.json", content)


def test_classes_are_in_the_order_of_the_file(tmp_path, content):
    assert read_coco(tmp_path / "train.json").classes == ("disc", "bar")


SPOILED = {
    "has no list 'annotations'": lambda c: c.pop("annotations"),
    "has no list 'images'": lambda c: c.update(images=3),
    "has no categories": lambda c: c.update(categories=[]),
    "holds no object": lambda c: c.update(annotations=[]),
    "several categories of the name disc": lambda c: c["categories"][1].update(
        name="disc"
    ),
    "several categories of the id 7": lambda c: c["categories"][1].update(id=7),
    "several images of the id 1": lambda c: c["images"][1].update(id=1),
    "several objects of the id 2": lambda c: c["annotations"][1].update(id=2),
    "image 1 has no usable height": lambda c: c["images"][0].pop("height"),
    "1 of 12 objects have no image in the file: id 3": lambda c: c["annotations"][
        1
    ].update(image_id=99),
    "1 of 12 objects have no category in the file: id 2": lambda c: c["annotations"][
        0
    ].update(category_id=99),
    "1 of 12 objects have no box: id 2": lambda c: c["annotations"][0].pop("bbox"),
    "1 of 12 objects have no area: id 2": lambda c: c["annotations"][0].pop("area"),
    "1 of 12 objects have no id: id [1]": lambda c: c["annotations"][0].update(id=[1]),
    "1 of 12 objects have no image in the file: id 2": lambda c: c["annotations"][
        0
    ].update(image_id=[1]),
    "the image [1] has no usable id": lambda c: c["images"][0].update(id=[1]),
    "the image 1 has no usable file_name": lambda c: c["images"][0].update(file_name=5),
    "the image 1 has no usable width": lambda c: c["images"][0].update(width="128"),
    "a category without name or id": lambda c: c["categories"][0].update(id={}),
    "1 of 12 objects have no box: id 4": lambda c: c["annotations"][2].update(
        bbox=[float("nan"), 0, 3, 3]
    ),
    "1 of 12 objects have no area: id 4": lambda c: c["annotations"][2].update(
        area=float("inf")
    ),
    "12 of 12 objects have no mask: id 2, 3, 4 and 9 more": lambda c: [
        record.pop("segmentation") for record in c["annotations"]
    ],
}


@pytest.mark.parametrize("said", SPOILED)
def test_a_file_that_does_not_fit_together_is_an_error_that_says_what(
    tmp_path, content, said
):
    content = copy.deepcopy(content)
    SPOILED[said](content)
    with pytest.raises(Stage2Error) as found:
        read_coco(saved(tmp_path, content))
    assert said in str(found.value) and "changed.json" in str(found.value)


@pytest.mark.parametrize("text, said", [("[]", "no JSON object"), ("{", "is no JSON")])
def test_what_is_no_coco_file_is_an_error(tmp_path, text, said):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(Stage2Error, match=said):
        read_coco(tmp_path / "a.json")


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(Stage2Error, match="none.json cannot be read: No such file"):
        read_coco(tmp_path / "none.json")


def test_other_classes_in_the_validation_file_are_an_error(tmp_path, content):
    content["categories"][1]["name"] = "ring"
    with pytest.raises(
        Stage2Error, match="bar only in the first, ring only in the second"
    ):
        check_same_classes(
            read_coco(tmp_path / "train.json"), read_coco(saved(tmp_path, content))
        )


def test_the_same_classes_in_another_order_are_an_error(tmp_path, content):
    content["categories"].reverse()
    with pytest.raises(
        Stage2Error, match="class 0 is 'disc' in the first and 'bar' in the"
    ):
        check_same_classes(
            read_coco(tmp_path / "train.json"), read_coco(saved(tmp_path, content))
        )


def test_a_folder_without_the_images_is_an_error_with_counts(tmp_path, content):
    coco = read_coco(tmp_path / "train.json")
    (tmp_path / "images/002.jpg").unlink()
    with pytest.raises(Stage2Error, match="1 of 6 images of .* are not in .*: 002.jpg"):
        check_image_files(coco, tmp_path / "images")
    with pytest.raises(
        Stage2Error, match="6 of 6 images of .* 001.jpg, 002.jpg, 003.jpg and 3"
    ):
        check_image_files(coco, tmp_path)
    with pytest.raises(Stage2Error, match="image folder .*/none does not exist"):
        check_image_files(coco, tmp_path / "none")


def test_images_of_another_size_are_an_error(tmp_path, content):
    content["images"][2]["width"] += 1
    with pytest.raises(
        Stage2Error, match="003.jpg is 128 x 96 px, where the file says 129 x 96"
    ):
        check_image_files(read_coco(saved(tmp_path, content)), tmp_path / "images")


BROKEN_MASKS = {
    "has a vertex that is not finite": [[1, 2, float("nan"), 4, 5, 6]],
    "or far outside its 128x96 image": [[1, 2, 3e9, 4, 5, 6]],
    "is 1; expected": [1, 2, 3, 4, 5, 6],
    "has 4 numbers": [[1, 2, 3, 4]],
    "has the size": {"size": [128, 96], "counts": [0, 96 * 128]},
    "counts sum to 30": {"size": [96, 128], "counts": [10, 20]},
    "are not a whole RLE": {"size": [96, 128], "counts": "  !"},
}


@pytest.mark.parametrize("said", BROKEN_MASKS)
def test_a_broken_mask_is_an_error_before_anything_compiled_sees_it(
    tmp_path, content, said
):
    content["annotations"][3]["segmentation"] = BROKEN_MASKS[said]
    coco = read_coco(saved(tmp_path, content))
    with pytest.raises(Stage2Error, match="1 of 12 masks .*: object 5: ") as found:
        check_masks(coco)
    assert said in str(found.value)


def test_a_mask_without_a_pixel_is_no_broken_one(tmp_path, content):
    empty = drawn.rle(np.zeros(drawn.SIZE))
    content["annotations"][3]["segmentation"] = empty
    check_masks(read_coco(saved(tmp_path, content)))


def test_boxes_as_masks_fill_each_box_and_leave_crowds_alone(tmp_path, content):
    content["annotations"][1]["iscrowd"] = 1
    source = read_coco(saved(tmp_path, content))
    write_box_masks(source, tmp_path / "boxes.json")
    made = json.loads((tmp_path / "boxes.json").read_text())["annotations"]
    mask = coco_mask.decode(made[0]["segmentation"])
    expected = drawn.parts((8, 10, 60, 40))
    np.testing.assert_array_equal(mask, expected)
    assert made[0]["area"] == expected.sum() == 52 * 30
    assert made[1] == content["annotations"][1]


@pytest.mark.parametrize(
    "box, filled",
    [
        ([10.4, 20.6, 5.0, 3.0], (10, 21, 15, 24)),
        ([127.9, 95.9, 0.1, 0.1], (127, 95, 128, 96)),
        ([-4.0, -4.0, 8.0, 8.0], (0, 0, 4, 4)),
        ([120.0, 90.0, 50.0, 50.0], (120, 90, 128, 96)),
    ],
)
def test_a_box_fills_the_pixels_whose_centres_it_holds(tmp_path, content, box, filled):
    content["annotations"][0]["bbox"] = box
    write_box_masks(read_coco(saved(tmp_path, content)), tmp_path / "boxes.json")
    made = json.loads((tmp_path / "boxes.json").read_text())["annotations"][0]
    np.testing.assert_array_equal(
        coco_mask.decode(made["segmentation"]), drawn.parts(filled)
    )


def test_a_single_class_keeps_all_else(tmp_path, content):
    write_single_class(read_coco(tmp_path / "train.json"), tmp_path / "one.json")
    made = json.loads((tmp_path / "one.json").read_text())
    assert made["categories"] == [{"id": 1, "name": "object"}]
    assert made["images"] == content["images"]
    assert made["annotations"] == [
        record | {"category_id": 1} for record in content["annotations"]
    ]
