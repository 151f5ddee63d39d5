import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exits_jax.files.seals import (
    Damaged,
    fault_of_file,
    read_json,
    read_sealed,
    seal_of,
    seals_of,
    write_sealed,
)

RECORD = {"status": "finished", "facts": {"lr": 1e-3, "name": 'é"', "many": [1, 2]}}


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    path = tmp_path_factory.mktemp("sealed") / "record.json"
    write_sealed(path, RECORD)
    return path.read_bytes()


@settings(max_examples=300)
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_bit_that_flips_is_noticed_or_changes_nothing(
    tmp_path_factory, sealed, place, bit
):
    path = tmp_path_factory.getbasetemp() / "flipped.json"
    data = bytearray(sealed)
    data[place % len(data)] ^= 1 << bit
    path.write_bytes(data)
    try:
        found = read_sealed(path)
    except Damaged as error:
        assert str(path) in str(error)
    else:
        assert {name: found[name] for name in RECORD} == RECORD


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "7", '"x"', "\0" * 9, "[" * 10**5, '{"seal": 1}']
)
def test_what_is_no_record_is_named(tmp_path, text):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(Damaged, match="record.json"):
        read_sealed(path)


def test_a_record_without_a_seal_is_read(tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(RECORD))
    assert read_sealed(path) == RECORD


def test_a_record_that_was_changed_by_hand_is_read_without_its_seal(tmp_path):
    path = tmp_path / "record.json"
    write_sealed(path, RECORD)
    changed = json.loads(path.read_text()) | {"status": "running"}
    path.write_text(json.dumps(changed))
    with pytest.raises(Damaged, match='remove its field "seal"'):
        read_sealed(path)
    del changed["seal"]
    path.write_text(json.dumps(changed))
    assert read_sealed(path)["status"] == "running"


def test_a_list_in_the_place_of_an_object_is_named(tmp_path):
    path = tmp_path / "choice.json"
    path.write_text("[]")
    with pytest.raises(Damaged, match="choice.json is damaged: it holds no JSON objec"):
        read_json(path, dict)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.write_bytes(b"abd"), "its SHA-256 is another"),
        (lambda path: path.write_bytes(b"ab"), "has 2 bytes, but 3 were written"),
        (lambda path: path.unlink(), "is missing"),
        (lambda path: None, None),
    ],
)
def test_a_seal_tells_what_became_of_a_file(tmp_path, change, words):
    path = tmp_path / "below" / "array"
    path.parent.mkdir()
    path.write_bytes(b"abc")
    seals = seals_of(tmp_path, [path])
    assert seals == {"below/array": seal_of(path)}
    change(path)
    fault = fault_of_file(path, seals["below/array"])
    assert fault == words if words is None else words in (fault or "")


@pytest.mark.parametrize("seal", [None, 3, {}, {"bytes": 3}])
def test_a_seal_that_is_none_vouches_for_nothing(tmp_path, seal):
    (tmp_path / "array").write_bytes(b"abc")
    assert fault_of_file(tmp_path / "array", seal) == "its seal is none"
