import json

import defusedxml.ElementTree as ElementTree
import hypothesis.extra.numpy as arrays
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from exits_jax.exporters import label_studio_rle
from tests.support import drawn_masks

MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))
# The head that the tool itself wrote for a photograph of 3332 x 2527 px.
PHOTOGRAPH = (3332, 2527), [2, 1, 233, 240, 57, 27, 255]


def decode(packed, height, width):
    """Reads the bits one by one, as the format is described."""
    bits = iter("".join(f"{byte:08b}" for byte in packed))
    take = lambda count: int("".join(next(bits) for _ in range(count)), 2)
    num_values = take(32)
    value_bits = take(5) + 1
    widths = [take(4) + 1 for _ in range(4)]
    values = []
    while len(values) < num_values:
        is_repeated = take(1)
        length = take(widths[take(2)]) + 1
        if is_repeated:
            values += [take(value_bits)] * length
        else:
            values += [take(value_bits) for _ in range(length)]
    assert len(values) == num_values == height * width * 4
    assert len(list(bits)) < 8
    channels = np.array(values).reshape(height, width, 4)
    assert (channels == channels[..., :1]).all()
    return channels[..., 3] == 255


@settings(max_examples=150, deadline=None)
@given(MASKS, st.tuples(*[st.integers(0, 3)] * 4))
def test_a_slow_decoder_gives_the_mask_back(mask, margins):
    left, top, right, bottom = margins
    image = np.pad(mask, ((top, bottom), (left, right)))
    height, width = image.shape
    packed = label_studio_rle.encode(
        mask, left=left, top=top, width=width, height=height
    )
    assert all(0 <= byte <= 255 for byte in packed)
    np.testing.assert_array_equal(decode(packed, height, width), image)


def test_runs_beyond_16_bits_are_split():
    packed = label_studio_rle.encode(
        np.ones((1, 1), bool), left=150, top=149, width=200, height=200
    )
    mask = decode(packed, 200, 200)
    assert mask.sum() == 1 and mask[149, 150]


def test_the_head_is_that_of_the_tool():
    (width, height), head = PHOTOGRAPH
    empty = np.zeros((1, 1), bool)
    packed = label_studio_rle.encode(empty, left=0, top=0, width=width, height=height)
    assert packed[: len(head)] == head


def tasks_of(folder):
    return json.loads((folder / "tasks.json").read_text())


def test_every_mask_comes_back_exactly(tmp_path):
    source = drawn_masks.content(drawn_masks.OBJECTS.values())
    folder, report = drawn_masks.exported(tmp_path, "label_studio", source)
    results = tasks_of(folder)[0]["predictions"][0]["result"]
    for result, mask in zip(results, drawn_masks.OBJECTS.values(), strict=True):
        size = result["original_height"], result["original_width"]
        np.testing.assert_array_equal(decode(result["value"]["rle"], *size), mask)
    assert report["warnings"] == []


def test_a_task_has_a_prediction_with_a_score_and_a_version(tmp_path):
    source = drawn_masks.content(
        [drawn_masks.OBJECTS["border"], drawn_masks.OBJECTS["line"]]
    )
    source["annotations"][1]["score"] = 0.25
    folder, _ = drawn_masks.exported(tmp_path, "label_studio", source)
    task, empty = tasks_of(folder)
    (prediction,) = task["predictions"]
    assert task["data"] == {"image": drawn_masks.NAME}
    assert prediction["model_version"] == "exits_jax 1.0 abc"
    assert prediction["score"] == 0.5
    first, second = prediction["result"]
    assert (first["score"], second["score"]) == (0.75, 0.25)
    assert first["id"] != second["id"]
    assert first["value"]["brushlabels"] == ['dog & "cat"']
    assert (first["type"], first["value"]["format"]) == ("brushlabels", "rle")
    assert empty["predictions"][0]["result"] == []
    assert "score" not in empty["predictions"][0]


def test_a_prefix_goes_before_the_quoted_file_name(tmp_path):
    prefix = "/data/local-files/?d=coco/"
    source = drawn_masks.content([])
    folder, _ = drawn_masks.exported(
        tmp_path, "label_studio", source, image_prefix=prefix
    )
    image = tasks_of(folder)[0]["data"]["image"]
    assert image == prefix + "train2017/a%20%26%20b%20%3C%22%C3%BC%22%3E.jpg"


def test_the_labeling_configuration_has_the_names_of_the_results(tmp_path):
    source = drawn_masks.content([drawn_masks.OBJECTS["border"]])
    folder, _ = drawn_masks.exported(tmp_path, "label_studio", source)
    root = ElementTree.parse(folder / "label_config.xml").getroot()
    labels = root.find("BrushLabels")
    result = tasks_of(folder)[0]["predictions"][0]["result"][0]
    assert labels.get("name") == result["from_name"]
    assert labels.get("toName") == root.find("Image").get("name") == result["to_name"]
    assert root.find("Image").get("value") == "$image"
    assert [label.get("value") for label in labels] == ["<zebra>", 'dog & "cat"']


def test_a_file_without_images_gives_an_empty_list(tmp_path):
    source = drawn_masks.content([], images=[])
    folder, _ = drawn_masks.exported(tmp_path, "label_studio", source)
    assert tasks_of(folder) == []
