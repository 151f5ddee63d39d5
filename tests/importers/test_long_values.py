"""Whatever a file holds, what is said of it stays short."""

import json

import pytest

from exits_jax.data.records import AnnotationError
from exits_jax.importers import kinds
from exits_jax.importers.items import Rejected
from exits_jax.importers.json_files import outline_of, short
from tests.importers import made

DEEP = {
    f"field {i}": [{f"key {j}": ["x" * 90] * 9 for j in range(9)}] * 9 for i in range(9)
}
LONG = ["word " * 1000, list(range(10**4)), DEEP, [DEEP] * 9, {"x" * 9999: DEEP}]


@pytest.mark.parametrize("value", LONG)
def test_a_long_or_deep_value_is_cut(value):
    assert len(short(value)) <= 160
    assert len(outline_of(value)) <= 400


def test_a_file_is_described_by_its_fields():
    said = outline_of({"images": [1] * 999, "info": DEEP})
    assert said == "an object with the fields 'images', 'info'"


@pytest.mark.parametrize("kind", ["labelme", "label_studio"])
@pytest.mark.parametrize("content", LONG)
def test_a_foreign_file_is_named_in_few_words(tmp_path, kind, content):
    source = tmp_path / "settings.json"
    source.write_text(json.dumps(content))
    try:
        said = [item.message for item in kinds.read(kind, source)]
    except AnnotationError as error:
        said = [str(error)]
    assert said and max(map(len, said)) < 600 + len(str(source))


def test_a_foreign_file_in_a_folder_of_labelme_is_named_in_few_words(tmp_path):
    made.images(tmp_path, "a.jpg")
    (tmp_path / "settings.json").write_text(json.dumps(DEEP))
    (rejected,) = kinds.read("labelme", tmp_path)
    assert isinstance(rejected, Rejected) and rejected.record == "settings.json"
    assert "settings.json is not labelme's: it holds an object with" in rejected.message
    assert len(rejected.message) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("name", ["points", "shape_type"])
@pytest.mark.parametrize("value", LONG)
def test_a_long_value_in_a_shape_of_labelme_is_cut(tmp_path, name, value):
    shape = {"label": "cat", "points": [[1, 2]] * 4, "shape_type": "polygon"}
    content = {"shapes": [{**shape, name: value}], "imagePath": "a.jpg"}
    source = tmp_path / "a.json"
    source.write_text(json.dumps(content))
    rejected = next(kinds.read("labelme", source))
    assert isinstance(rejected, Rejected) and len(rejected.message) < 400
