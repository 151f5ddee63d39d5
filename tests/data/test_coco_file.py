"""Instance files: parsed record by record, or as a whole where they are not strict."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from exits_jax.data import coco_file
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


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**60, 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=80)
@given(
    records=st.lists(values, max_size=4),
    rest=st.dictionaries(
        st.text(max_size=4).filter(lambda key: key not in coco_file.LISTS),
        values,
        max_size=3,
    ),
    ascii=st.booleans(),
)
def test_both_ways_of_parsing_give_the_same_records(
    tmp_path_factory, records, rest, ascii
):
    source = {**rest, "images": [{"id": 1}], "categories": []}
    folder = tmp_path_factory.mktemp("parsed")
    strict = read(
        folder, json.dumps({**source, "annotations": records}, ensure_ascii=ascii)
    )
    one_more = [*records, {"id": float("nan")}]
    lenient = read(
        folder, json.dumps({**source, "annotations": one_more}, ensure_ascii=ascii)
    )
    assert strict.annotations.is_strict and not lenient.annotations.is_strict
    # The text tells 1 from 1.0 and from true, which == does not.
    told = json.dumps([content(strict), list(strict.annotations)])
    expected = content(lenient) | {"annotations": list(lenient.annotations[:-1])}
    assert told == json.dumps([expected, expected["annotations"]])
    assert list(strict.annotations) == records


@pytest.mark.parametrize("is_strict", [True, False])
def test_a_byte_order_mark_changes_nothing(tmp_path, is_strict):
    source = SOURCE if is_strict else {**SOURCE, "annotations": [float("inf")]}
    file = read(tmp_path, b"\xef\xbb\xbf" + json.dumps(source).encode())
    assert content(file) == source
    assert file.annotations.is_strict == is_strict


def test_parsed_records_are_taken_as_they_are():
    file = CocoFile("made", SOURCE)
    assert content(file) == SOURCE
    assert file.annotations[0] is SOURCE["annotations"][0]
    assert file.name == "made" and file.image_ids == [1, "b"]


@pytest.mark.parametrize("field", ["images", "categories", "licenses"])
def test_nan_is_let_through_in_annotations_only(tmp_path, field):
    odd = [{"id": 9, "odd": float("nan")}]
    with pytest.raises(AnnotationError, match=f"`{field}` holds NaN") as caught:
        read(tmp_path, json.dumps({**SOURCE, field: odd}))
    assert caught.value.problems[0].code == "E104"


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


def test_a_file_of_one_byte_too_many_is_refused(tmp_path, monkeypatch):
    text = json.dumps(SOURCE)
    monkeypatch.setattr(coco_file, "MAX_BYTES", len(text))
    assert content(read(tmp_path, text)) == SOURCE
    with pytest.raises(AnnotationError, match="Split it") as caught:
        read(tmp_path, text + " ")
    assert caught.value.problems[0].code == "E115"


def test_a_file_that_is_too_large_to_parse_as_a_whole_must_be_strict(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(coco_file, "_MAX_LENIENT_BYTES", 10)
    assert content(read(tmp_path, json.dumps(SOURCE))) == SOURCE
    loose = json.dumps({**SOURCE, "annotations": [float("nan")]})
    with pytest.raises(AnnotationError, match="is not strict JSON") as caught:
        read(tmp_path, loose)
    assert caught.value.problems[0].code == "E101"


def test_by_id_parses_a_record_again_when_it_is_asked_for(tmp_path):
    found = ById(read(tmp_path, json.dumps(SOURCE)).annotations, "x")
    assert found[1] == SOURCE["annotations"][0]["x"]
    assert found[1] is not found[1]
    assert len(found) == 1 and list(found) == [1]
    with pytest.raises(KeyError):
        found["1"]


@pytest.mark.parametrize("empty", [None, [], {}, "", 0])
def test_by_id_leaves_out_records_whose_field_is_empty(empty):
    assert dict(ById(Records([{"id": 1, "x": empty}, {"id": 1, "x": 5}]), "x")) == {}


def test_by_id_finds_a_field_of_the_first_record_that_has_the_id():
    records = Records(
        [{"id": 1, "x": "first"}, {"id": 1, "x": "second"}, {"id": 2}, 7, {"x": 3}]
        + [{"id": 2, "x": "late"}, {"id": "1", "x": "text"}, {"id": [], "x": 1}]
    )
    found = ById(records, "x")
    assert dict(found) == {1: "first", "1": "text"}
    assert 2 not in found and found.get(3) is None


def test_a_category_id_that_occurs_twice_is_refused(tmp_path):
    source = {**SOURCE, "categories": [{"id": 3, "name": "a"}, {"id": 3, "name": "b"}]}
    with pytest.raises(AnnotationError, match="category ids .* once: 3") as caught:
        read(tmp_path, json.dumps(source))
    assert caught.value.problems[0].code == "E102"
