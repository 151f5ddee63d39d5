"""Instance files: parsed record by record, or as a whole where they are not strict."""

import json

import pytest

from exits_jax.data.coco_file import ById, CocoFile, Records, read_text
from exits_jax.data.records import AnnotationError

SOURCE = {
    "info": {"year": 2017, "big": 10**30},
    "images": [{"id": 1, "file_name": "\u00e9.jpg"}, {"id": "b"}],
    "annotations": [{"id": 1, "x": [0.1, 2, None, True]}, 5, {"id": "1"}],
    "categories": [{"id": 3, "name": "cat"}],
    "licenses": [],
}


def read(tmp_path, text):
    path = tmp_path / "file.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return CocoFile.read(path)


def content(file):
    return {
        **file.rest,
        "images": list(file.images),
        "annotations": list(file.annotations),
        "categories": file.categories,
    }


@pytest.mark.parametrize("ascii", [True, False])
@pytest.mark.parametrize("indent", [None, 2])
def test_records_are_those_of_the_json_module(tmp_path, ascii, indent):
    text = json.dumps(SOURCE, ensure_ascii=ascii, indent=indent)
    file = read(tmp_path, text)
    assert content(file) == SOURCE
    assert file.annotations.is_strict
    assert file.annotations[-1] == {"id": "1"}
    assert file.annotations[:2] == SOURCE["annotations"][:2]
    assert file.image_ids == [1, "b"]


def test_a_file_with_nan_is_parsed_as_a_whole(tmp_path):
    source = {**SOURCE, "annotations": [{"id": 1, "x": float("inf")}]}
    file = read(tmp_path, json.dumps(source))
    assert content(file) == source
    assert not file.annotations.is_strict


def test_half_a_surrogate_is_kept(tmp_path):
    text = json.dumps(SOURCE).replace('"cat"', '"\\ud800"')
    assert read(tmp_path, text).categories[0]["name"] == "\ud800"


def test_of_a_field_that_occurs_twice_the_last_counts(tmp_path):
    text = '{"annotations": [1], ' + json.dumps(SOURCE)[1:]
    assert content(read(tmp_path, text)) == SOURCE


def test_a_record_that_nobody_can_parse_is_named_when_it_is_asked_for(tmp_path):
    text = json.dumps(SOURCE).replace("2, null", "9" * 5000)
    file = read(tmp_path, text)
    assert file.annotations[2] == {"id": "1"}
    with pytest.raises(AnnotationError, match="cannot be parsed") as caught:
        file.annotations[0]
    assert caught.value.problems[0].code == "E101"


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(AnnotationError, match="is a folder"):
        CocoFile.read(tmp_path)


@pytest.mark.parametrize("place", [0, 3, 2**24 - 1, 2**24, 2**24 + 1])
def test_a_byte_that_is_no_text_is_found_wherever_it_is(tmp_path, place):
    data = bytearray(b" " * (2**24 + 9))
    data[place : place + 1] = b"\xff"
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(AnnotationError, match=f"byte {place} is wrong"):
        read_text(tmp_path / "a.json")


def test_letters_across_the_pieces_of_a_large_file_are_read(tmp_path):
    data = b" " * (2**24 - 1) + "\u00e9".encode()
    (tmp_path / "a.json").write_bytes(data)
    assert read_text(tmp_path / "a.json") == data


def test_by_id_finds_a_field_of_the_first_record_that_has_the_id():
    records = Records(
        [{"id": 1, "x": "first"}, {"id": 1, "x": "second"}, {"id": 2}, 7, {"x": 3}]
        + [{"id": 2, "x": "late"}, {"id": "1", "x": "text"}, {"id": [], "x": 1}]
    )
    found = ById(records, "x")
    assert dict(found) == {1: "first", "1": "text"}
    assert 2 not in found and found.get(3) is None
