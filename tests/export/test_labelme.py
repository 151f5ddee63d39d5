import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.export import drawn


def read(folder, name=drawn.NAME):
    return json.loads((folder / name).with_suffix(".json").read_text("utf-8"))


def fill(shapes):
    """labelme's rasteriser: Pillow's polygon with its outline, the parts united."""
    canvas = Image.new("1", (drawn.WIDTH, drawn.HEIGHT))
    for shape in shapes:
        corners = [tuple(point) for point in shape["points"]]
        ImageDraw.Draw(canvas).polygon(corners, outline=1, fill=1)
    return np.array(canvas)


@pytest.mark.parametrize("name", list(drawn.OBJECTS))
def test_every_object_comes_back_exactly(tmp_path, name):
    source = drawn.content([drawn.OBJECTS[name]])
    folder, _ = drawn.exported(tmp_path, "labelme", source)
    np.testing.assert_array_equal(fill(read(folder)["shapes"]), drawn.OBJECTS[name])


def test_the_parts_of_an_object_share_a_group(tmp_path):
    masks = [drawn.OBJECTS[name] for name in ("border", "two parts", "four parts")]
    folder, report = drawn.exported(tmp_path, "labelme", drawn.content(masks))
    groups = [shape["group_id"] for shape in read(folder)["shapes"]]
    assert groups == [None, 2, 2, 3, 3, 3, 3]
    assert drawn.warnings_of(report) == {"split_objects": 2}


def test_the_file_has_labelmes_fields_and_no_pixels(tmp_path):
    source = drawn.content([drawn.OBJECTS["border"]])
    folder, report = drawn.exported(tmp_path, "labelme", source)
    found = read(folder)
    (shape,) = found.pop("shapes")
    assert found == {
        "version": "5.5.0",
        "flags": {},
        "imagePath": 'a & b <"ü">.jpg',
        "imageData": None,
        "imageHeight": drawn.HEIGHT,
        "imageWidth": drawn.WIDTH,
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
    photo = tmp_path / "photos" / drawn.NAME
    photo.parent.mkdir(parents=True)
    photo.touch()
    source = drawn.content([drawn.OBJECTS["holes"]])
    folder, _ = drawn.exported(tmp_path, "labelme", source, images=tmp_path / "photos")
    place = (folder / drawn.NAME).parent / read(folder)["imagePath"]
    assert place.resolve() == photo.resolve()


def test_an_image_without_objects_has_a_file_without_shapes(tmp_path):
    folder, _ = drawn.exported(tmp_path, "labelme", drawn.content([]))
    assert read(folder, "train2017/empty.jpg")["shapes"] == []


def test_a_crowd_region_is_reported(tmp_path):
    source = drawn.content([])
    source["annotations"].append(drawn.crowd(50, drawn.disc(40, 30, 12)))
    _, report = drawn.exported(tmp_path, "labelme", source)
    assert drawn.reasons_of(report) == {50: "E303"}
