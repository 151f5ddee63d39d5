"""Files of sound records that are still unfit, or may be meant otherwise."""

import json
from pathlib import Path

import pytest
from PIL import Image

from exits_jax.data.annotations import read_instances
from exits_jax.data.usable import doubts

MASK = {"size": [80, 100], "counts": [0, 8000]}


@pytest.fixture
def read(tmp_path):
    Image.new("RGB", (100, 80)).save(tmp_path / "a.png")

    def read_records(*records, **parts):
        source = {
            "images": [{"id": 7, "file_name": "a.png", "width": 100.0, "height": 80}],
            "categories": [{"id": 3, "name": "cat"}],
            "annotations": [
                {"id": n, "image_id": 7, "category_id": 3, "bbox": [1, 1, 9, 9]}
                | record
                for n, record in enumerate(records)
            ],
        }
        path = tmp_path / "file.json"
        path.write_text(json.dumps(source | parts))
        return read_instances(path, tmp_path, on_bad="error")

    return read_records


def codes(found):
    return [line[:4] for line in doubts(found.source, found.instances, Path("file"))]


def test_a_usual_file_raises_no_doubt(read):
    assert codes(read({}, {"iscrowd": 1, "segmentation": MASK})) == []


def test_more_crowds_than_objects_are_told(read):
    crowd = {"iscrowd": 1, "segmentation": MASK}
    assert codes(read({}, crowd, crowd)) == ["W219"]


def test_categories_of_one_name_are_told(read):
    categories = [{"id": 3, "name": "cat"}, {"id": 4, "name": "cat"}]
    assert codes(read({}, categories=categories)) == ["W108"]


@pytest.mark.parametrize("field", ["image_id", "category_id"])
def test_an_id_as_text_is_the_number_it_shows(read, field):
    number = {"image_id": 7, "category_id": 3}[field]
    found = read({field: str(number)})
    assert getattr(found.instances[0], field) == number
    assert codes(found) == ["W107"]


def test_ids_and_sizes_as_floats_are_whole_numbers(read):
    found = read({"id": 5.0, "image_id": 7.0, "category_id": 3.0})
    assert found.instances[0][:3] == (5, 7, 3)
    assert found.instances[0].image_size == (80, 100)
    assert codes(found) == []
