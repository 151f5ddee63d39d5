import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.support import drawn_masks


def read(folder, name=drawn_masks.NAME):
    return json.loads((folder / name).with_suffix(".json").read_text("utf-8"))


def fill(shapes):
    """labelme's rasteriser: Pillow's polygon with its outline, the parts united."""
    canvas = Image.new("1", (drawn_masks.WIDTH, drawn_masks.HEIGHT))
    for shape in shapes:
        corners = [tuple(point) for point in shape["points"]]
        ImageDraw.Draw(canvas).polygon(corners, outline=1, fill=1)
    return np.array(canvas)


@pytest.mark.parametrize("name", list(drawn_masks.OBJECTS))
def test_every_object_comes_back_exactly(tmp_path, name):
    source = drawn_masks.content([drawn_masks.OBJECTS[name]])
    folder, _ = drawn_masks.exported(tmp_path, "labelme", source)
    np.testing.assert_array_equal(
        fill(read(folder)["shapes"]), drawn_masks.OBJECTS[name]
    )


def test_the_parts_of_an_object_share_a_group(tmp_path):
    masks = [
        drawn_masks.OBJECTS[name] for name in ("border", "two parts", "four parts")
    ]
    folder, report = drawn_masks.exported(
        tmp_path, "labelme", drawn_masks.content(masks)
    )
    groups = [shape["group_id"] for shape in read(folder)["shapes"]]
    assert groups == [None, 2, 2, 3, 3, 3, 3]
    assert drawn_masks.warnings_of(report) == {"split_objects": 2}


def test_the_file_has_labelmes_fields_and_no_pixels(tmp_path):
    source = drawn_masks.content([drawn_masks.OBJECTS["border"]])
    folder, report = drawn_masks.exported(tmp_path, "labelme", source)
    found = read(folder)
    (shape,) = found.pop("shapes")
    assert found == {
        "version": "5.5.0",
        "flags": {},
        "imagePath": 'a & b <"ü">.jpg',
        "imageData": None,
        "imageHeight": drawn_masks.HEIGHT,
        "imageWidth": drawn_masks.WIDTH,
    }
    del shape["points"]
    assert shape == {
        "label": 'dog & "cat"',
        "group_id": None,
        "description": "score 0.750",
        "shape_type": "polygon",
        "flags": {},
        "mask": None,
        "annotation_id": 1,
        "score": 0.75,
    }
    assert report["warnings"] == []


def test_the_image_is_found_from_the_json_file(tmp_path):
    photo = tmp_path / "photos" / drawn_masks.NAME
    photo.parent.mkdir(parents=True)
    photo.touch()
    source = drawn_masks.content([drawn_masks.OBJECTS["holes"]])
    folder, _ = drawn_masks.exported(
        tmp_path, "labelme", source, images=tmp_path / "photos"
    )
    place = (folder / drawn_masks.NAME).parent / read(folder)["imagePath"]
    assert place.resolve() == photo.resolve()


def test_an_image_without_objects_has_a_file_without_shapes(tmp_path):
    folder, _ = drawn_masks.exported(tmp_path, "labelme", drawn_masks.content([]))
    assert read(folder, "train2017/empty.jpg")["shapes"] == []


def test_a_crowd_region_is_reported(tmp_path):
    source = drawn_masks.content([])
    source["annotations"].append(drawn_masks.crowd(50, drawn_masks.disc(40, 30, 12)))
    _, report = drawn_masks.exported(tmp_path, "labelme", source)
    assert drawn_masks.reasons_of(report) == {50: "E303"}
