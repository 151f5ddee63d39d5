import defusedxml.ElementTree as ElementTree
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.support import drawn_masks

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

# The example of CVAT's documentation of its XML format.
DOCUMENTED = (
    "3, 5, 7, 7, 5, 9, 3, 11, 2, 11, 2, 12, 1, 12, 1, 26, 1, 12, 1, 12, 2, 11, 3, 9, "
    "5, 7, 7, 5, 3"
)


def read(folder):
    return ElementTree.parse(folder / "annotations.xml").getroot()


def decode(element, height=drawn_masks.HEIGHT, width=drawn_masks.WIDTH):
    """A mask as the documentation describes it, pixel by pixel."""
    left, top = int(element.get("left")), int(element.get("top"))
    wide, high = int(element.get("width")), int(element.get("height"))
    image = np.zeros((height, width), bool)
    place = 0
    for turn, run in enumerate(element.get("rle").split(", ")):
        for _ in range(int(run)):
            row, column = divmod(place, wide)
            image[top + row, left + column] = turn % 2 == 1
            place += 1
    assert place == wide * high
    return image


def test_the_decoder_of_these_tests_reads_the_documented_example():
    element = {"left": "0", "top": "0", "width": "13", "height": "15"}
    mask = decode({"rle": DOCUMENTED} | element, 15, 13)
    assert mask.sum() == sum(int(run) for run in DOCUMENTED.split(", ")[1::2])
    # A blob in its own box: another layout would tear its rows apart.
    assert mask.any(axis=0).all() and mask.any(axis=1).all()
    starts = mask & ~np.pad(mask, ((0, 0), (1, 0)))[:, :-1]
    assert (starts.sum(axis=1) == 1).all()


def test_every_mask_comes_back_exactly(tmp_path):
    source = drawn_masks.content(drawn_masks.OBJECTS.values())
    folder, report = drawn_masks.exported(tmp_path, "cvat", source)
    masks = read(folder).findall("image/mask")
    for element, mask in zip(masks, drawn_masks.OBJECTS.values(), strict=True):
        np.testing.assert_array_equal(decode(element), mask)
    assert drawn_masks.warnings_of(report) == {"lost_scores": 10}


def test_polygons_give_every_mask_back_exactly(tmp_path):
    source = drawn_masks.content(drawn_masks.OBJECTS.values())
    folder, report = drawn_masks.exported(tmp_path, "cvat_polygons", source)
    by_object: dict = {}
    for k, element in enumerate(read(folder).findall("image/polygon")):
        points = element.get("points").replace(";", ",").split(",")
        ring = [float(value) for value in points]
        by_object.setdefault(element.get("group_id") or f"alone {k}", []).append(ring)
    for rings, mask in zip(
        by_object.values(), drawn_masks.OBJECTS.values(), strict=True
    ):
        runs = coco_mask.frPyObjects(rings, drawn_masks.HEIGHT, drawn_masks.WIDTH)
        np.testing.assert_array_equal(coco_mask.decode(coco_mask.merge(runs)), mask)
    found = drawn_masks.warnings_of(report)
    assert (found["bridged_holes"], found["split_objects"]) == (3, 4)


def test_names_are_escaped(tmp_path):
    source = drawn_masks.content(
        [drawn_masks.OBJECTS["border"], drawn_masks.OBJECTS["line"]]
    )
    root = read(drawn_masks.exported(tmp_path, "cvat", source)[0])
    names = [image.get("name") for image in root.findall("image")]
    assert names == [drawn_masks.NAME, "train2017/empty.jpg"]
    labels = [label.text for label in root.findall("meta/task/labels/label/name")]
    assert labels == ["<zebra>", 'dog & "cat"']
    used = [mask.get("label") for mask in root.findall("image/mask")]
    assert used == ['dog & "cat"', "<zebra>"]


def test_an_image_has_its_number_and_size(tmp_path):
    root = read(drawn_masks.exported(tmp_path, "cvat", drawn_masks.content([]))[0])
    assert root.findtext("version") == "1.1"
    assert root.findtext("meta/task/mode") == "annotation"
    sizes = {"width": str(drawn_masks.WIDTH), "height": str(drawn_masks.HEIGHT)}
    assert [image.attrib for image in root.findall("image")] == [
        {"id": "0", "name": drawn_masks.NAME} | sizes,
        {"id": "1", "name": "train2017/empty.jpg"} | sizes,
    ]


def test_what_xml_cannot_hold_is_replaced_in_labels_and_refused_in_file_names(tmp_path):
    source = drawn_masks.content([drawn_masks.OBJECTS["border"]], name="a\x01.jpg")
    source["categories"][0]["name"] = "d\x02og"
    folder, report = drawn_masks.exported(tmp_path, "cvat", source)
    root = read(folder)
    assert root.findtext("meta/task/labels/label[2]/name") == "d\ufffdog"
    assert [image.get("name") for image in root.findall("image")] == [
        "train2017/empty.jpg"
    ]
    assert drawn_masks.reasons_of(report) == {1: "E306"}
    assert drawn_masks.warnings_of(report)["renamed_classes"] == 1
