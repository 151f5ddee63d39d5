import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from exits_jax.files.atomic import whole_file
from exits_jax.files.json_files import write_json, write_json_lists


def test_json_takes_numpy_values_and_makes_its_folder(tmp_path):
    path = tmp_path / "new" / "out.json"
    write_json(path, {"a": np.float32(0.5), "b": np.arange(2), "c": Path("x")})
    assert json.loads(path.read_text()) == {"a": 0.5, "b": [0, 1], "c": "x"}
    assert list(path.parent.iterdir()) == [path]


def test_json_for_people_is_indented_and_other_json_is_one_line(tmp_path):
    path = tmp_path / "out.json"
    write_json(path, {"a": {"b": 1}}, indent=2)
    assert path.read_text() == '{\n  "a": {\n    "b": 1\n  }\n}\n'
    write_json(path, {"a": {"b": 1}})
    assert path.read_text() == '{"a": {"b": 1}}\n'


def test_json_with_a_number_that_is_not_finite_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match=r"out\.json.*finite"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}


def test_long_lists_are_written_entry_by_entry(tmp_path):
    path = tmp_path / "out.json"
    taken = []

    def entries():
        for number in range(3):
            taken.append(number)
            yield json.dumps({"id": number})

    write_json_lists(path, {"info": {"a": 1}}, {"images": [], "annotations": entries()})
    assert json.loads(path.read_text()) == {
        "info": {"a": 1},
        "images": [],
        "annotations": [{"id": 0}, {"id": 1}, {"id": 2}],
    }
    assert taken == [0, 1, 2]
    assert path.read_text().count("\n") > 4  # one entry per line


@pytest.mark.parametrize("fields", [{}, {"a": 1}])
@pytest.mark.parametrize("lists", [{}, {"b": []}, {"b": ["1"], "c": ["2", "3"]}])
def test_any_mixture_of_fields_and_lists_is_json(tmp_path, fields, lists):
    write_json_lists(tmp_path / "out.json", fields, lists)
    expected = {**fields, **{k: [int(v) for v in vs] for k, vs in lists.items()}}
    assert json.loads((tmp_path / "out.json").read_text()) == expected


def test_entries_that_break_off_leave_the_old_file(tmp_path):
    path = tmp_path / "out.json"
    write_json(path, {"old": True})

    def entries():
        yield "1"
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        write_json_lists(path, {}, {"a": entries()})
    assert json.loads(path.read_text()) == {"old": True}
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "out.txt"
    with whole_file(path) as file:
        file.write("text")
        file.flush()
        assert not path.exists()
    assert path.read_text() == "text"


def test_long_lists_are_never_held_as_a_whole(tmp_path):
    size = 100_000
    entries = (json.dumps(f"{number:0{size}}") for number in range(200))
    tracemalloc.start()
    try:
        write_json_lists(tmp_path / "out.json", {}, {"a": entries})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "out.json").stat().st_size > 200 * size
    assert peak < 20 * size


@pytest.mark.parametrize("old", [None, "old"])
def test_a_block_that_fails_leaves_the_folder_as_it_was(tmp_path, old):
    path = tmp_path / "out.txt"
    if old is not None:
        path.write_text(old)
    with pytest.raises(KeyError), whole_file(path) as file:
        file.write("half")
        file.flush()
        raise KeyError
    assert [item.read_text() for item in tmp_path.iterdir()] == [old] * bool(old)


def test_a_field_that_is_not_finite_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.json"
    write_json(path, {"old": True})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json_lists(path, {"a": float("nan")}, {"b": ["1"]})
    assert json.loads(path.read_text()) == {"old": True}
    assert list(tmp_path.iterdir()) == [path]


def test_what_json_cannot_hold_is_named(tmp_path):
    with pytest.raises(TypeError, match="object .* cannot be written as JSON"):
        write_json(tmp_path / "out.json", {"a": object()})
    assert not list(tmp_path.iterdir())


def test_text_of_any_letters_is_written_in_ascii(tmp_path):
    text = "\u00e9 \U0001f600 \ud800"  # half a surrogate is a text to JSON
    write_json(tmp_path / "out.json", {"a": text})
    assert (tmp_path / "out.json").read_bytes().isascii()
    assert json.loads((tmp_path / "out.json").read_text()) == {"a": text}
