import os
import pickle
import struct
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from pycocotools.coco import COCO

from exits_jax.data.records import AnnotationError
from exits_jax.evaluation import object_lists
from exits_jax.evaluation.object_lists import (
    ListedObject,
    compare_with,
    read_object_ids,
    read_object_list,
)
from tests.support.coded_masks import coded, listed

PROTOCOLS = range(6)


def mask_of(place):
    mask = np.zeros((6, 8), bool)
    mask[place : place + 2, 1:5] = True
    return mask


def entry(annotation_id=5, **changes):
    rle = {**coded(mask_of(1)), "counts": coded(mask_of(1))["counts"].encode()}
    fields = {
        "file_name": "000000000139.jpg",
        "class_name": "chair",
        "id": annotation_id,
        "box": [1.0, 1.0, 4.0, 2.0],
        "rle": rle,
        **changes,
    }
    return list(fields.values())


def write_pickle(path, value, protocol=4):
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "separated_coco.pkl"


def codes(caught):
    return {problem.code for problem in caught.value.problems}


# JSON


@pytest.mark.parametrize("text", ["[3, 1, 1]", '{"separated": [1, 3]}', "\ufeff [1,3]"])
def test_json_list_gives_its_ids(tmp_path, text):
    (tmp_path / "a").write_text(text)
    assert read_object_ids(tmp_path / "a") == {1, 3}


def test_ids_may_be_strings(tmp_path):
    (tmp_path / "a.json").write_text('["7", 7]')
    assert read_object_ids(tmp_path / "a.json") == {"7", 7}


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("[1, 2", "E101", "is not JSON"),
        ("", "E101", "is not JSON"),
        ("[" * 100_000, "E101", "is not JSON"),
        ('{"a": [1], "b": [2]}', "E102", "expected a JSON list"),
        ('{"a": 5}', "E102", "expected a JSON list"),
        ("[1, 2.5, true, null, [3]]", "E105", "4 of 5 entries cannot be used"),
        ("[NaN]", "E105", "entry 0 is nan, not an id"),
    ],
)
def test_json_of_another_form_is_refused(tmp_path, text, code, words):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(AnnotationError, match=words) as caught:
        read_object_ids(tmp_path / "a.json")
    assert codes(caught) == {code}


# Pickles


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pickle_of_any_protocol_gives_its_entries(path, protocol):
    write_pickle(path, [entry(5), tuple(entry(9))], protocol)
    first, second = read_object_list(path)
    assert first == ListedObject(
        "000000000139.jpg", "chair", 5, (1, 1, 4, 2), coded(mask_of(1))
    )
    assert second.annotation_id == 9
    assert read_object_ids(path) == {5, 9}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numbers_and_arrays_of_numpy_are_data_too(path, protocol):
    rle = {"size": np.array([6, 8]), "counts": b""}
    value = entry(
        np.int64(7),
        file_name=np.str_("a.jpg"),
        box=np.array([1, 2.5, 3, 4], ">f4"),
        rle=rle,
    )
    other = entry(np.uint32(8), box=[np.float64(1.5), 2, np.int16(3), 4])
    write_pickle(path, [value, other], protocol)
    first, second = read_object_list(path)
    assert first[:4] == ("a.jpg", "chair", 7, (1, 2.5, 3, 4))
    assert first.segmentation == {"size": [6, 8], "counts": ""}
    assert type(first.annotation_id) is int
    assert second[2:4] == (8, (1.5, 2, 3, 4))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_list_that_is_nearly_all_one_array_is_read(path, protocol):
    counts = np.frombuffer(b"5" * 9000, np.uint8)
    write_pickle(path, [entry(7, rle={"size": [6, 8], "counts": counts})], protocol)
    assert read_object_ids(path) == {7}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_names_of_older_numpy_are_known(path, protocol):
    new = pickle.dumps([entry(np.int64(7), box=np.arange(4.0))], protocol)
    shift = len("numpy._core") - len("numpy.core")
    old = new.replace(b"numpy._core", b"numpy.core")
    if protocol >= 4:  # names and frames carry their length
        old = old.replace(b"\x8c\x16numpy.core", b"\x8c\x15numpy.core")
        old = old.replace(b"\x8c\x13numpy.core", b"\x8c\x12numpy.core")
        count = new.count(b"numpy._core")
        (size,) = struct.unpack("<Q", new[3:11])
        old = old[:3] + struct.pack("<Q", size - shift * count) + old[11:]
    path.write_bytes(old)
    (only,) = read_object_list(path)
    assert only[2:4] == (7, (0, 1, 2, 3))


class Calls:
    """An object whose pickle calls a function when it is read."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("function", [os.system, eval, exec, open, os.mkdir])
def test_pickle_that_runs_something_is_refused_and_does_not(
    path, tmp_path, protocol, function
):
    witness = tmp_path / "witness"
    argument = {
        os.system: f"touch {witness}",
        eval: f"open({str(witness)!r}, 'w').close()",
        exec: f"open({str(witness)!r}, 'w').close()",
        open: str(witness),
        os.mkdir: str(witness),
    }[function]
    arguments = (argument, "w") if function is open else (argument,)
    write_pickle(path, [entry(), Calls(function, *arguments)], protocol)
    for read in (read_object_ids, read_object_list):
        with pytest.raises(AnnotationError, match="nothing of it was run") as caught:
            read(path)
        assert codes(caught) == {"E401"}
        assert str(path) in str(caught.value)
    assert not witness.exists()
    result = pickle.loads(path.read_bytes())  # the witness is a good one
    assert witness.exists()
    if hasattr(result[1], "close"):
        result[1].close()


class Plain:
    """A class of someone's own."""


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value",
    [
        Plain(),
        {1, 2},
        frozenset({1}),
        getattr,
        np.random.default_rng,
        np.load,
        Path("a"),
        1j,
        np.array([1, None, "x"], object),
        np.array([(1, 2)], [("a", "i4"), ("b", "f4")]),
        np.datetime64("2020-01-01"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_pickle_of_more_than_data_is_refused(path, protocol, value):
    write_pickle(path, [entry(), value], protocol)
    with pytest.raises(AnnotationError) as caught:
        read_object_list(path)
    assert codes(caught) == {"E401"}


@pytest.mark.parametrize(
    ("program", "code", "words"),
    [
        (b"Pabc\n.", "E401", "instruction PERSID"),
        (b"\x80\x04K\x01Q.", "E401", "instruction BINPERSID"),
        (b"(cos\nsystem\nVtrue\no.", "E401", "'os'.'system'"),
        (b"(I1\nVtrue\no.", "E401", "instruction OBJ"),
        (b"(Vtrue\nios\nsystem\n.", "E401", "instruction INST"),
        (b"\x80\x02\x82\x01.", "E401", "instruction EXT1"),
        (b"\x80\x05\x97.", "E401", "instruction NEXT_BUFFER"),
        (b"\x80\x02cos\nsystem\n).", "E401", "'os'.'system'"),
        (b"\x80\x02cnumpy\nload\n.", "E401", "'numpy'.'load'"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "E401", "instruction NEWOBJ"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "E101", "not a whole pickle"),
        (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R.", "E401", "type 'O8'"),
        (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00V8\x85R.", "E401", "type 'V8'"),
        (b"\x80\x02cnumpy\ndtype\n}b.", "E101", "described like an object"),
        (b"\x80\x02]K\x01\x85K\x02s.", "E101", "a list used as a dict"),
        (b"\x80\x02})" + b"q\x00h\x00\x86" * 60 + b"K\x01s.", "E101", "other keys"),
        (b"\x80\x02]", "E101", "not a whole pickle"),
        (b"\x80\x02K\x01.", "E102", "holds 1; expected a list"),
        (b"\x80\x02}.", "E102", "holds a dict"),
        (b"\x80\x09].", "E101", "not a whole pickle"),
        (b"\xff\xd8", "E101", "not a whole pickle"),
        (b"\x00", "E101", "not a whole pickle"),
    ],
)
def test_hostile_or_damaged_pickle_is_refused(path, program, code, words):
    path.write_bytes(program)
    with pytest.raises(AnnotationError, match=words) as caught:
        read_object_ids(path)
    assert codes(caught) == {code}


def test_array_cannot_claim_more_than_its_bytes(path):
    program = pickle.dumps([entry(box=np.arange(4.0))], 2)
    claim = program.replace(b"K\x04\x85", b"J\xff\xff\xff\x7f\x85")
    assert claim != program
    path.write_bytes(claim)
    with pytest.raises(AnnotationError, match="an array of 32 bytes in another"):
        read_object_list(path)


def nested(layer, times):
    """Something that holds the same thing twice, and so on: small as a pickle."""
    value = layer(())
    for _ in range(times):
        value = layer((value, value))
    return value


HUGE = 1 << 20_000  # more digits than Python writes out


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        (entry(HUGE), "E101", "more than 64 bits"),
        (entry(rle={"size": [HUGE, 1], "counts": b""}), "E101", "more than 64 bits"),
        (entry(box=np.zeros((20_000_000, 0))), "E101", "in another shape"),
        (entry(box=np.zeros((2, 2))), "E101", "in another shape"),
        (entry(rle={"size": [6, 8], "counts": nested(list, 60)}), "E211", "are a list"),
        (entry(rle={"size": nested(list, 60), "counts": b""}), "E211", "is a list"),
        (entry(file_name=nested(tuple, 60)), "E102", "its names are a tuple"),
        (entry(file_name="7" * 10**6, class_name=5), "E102", "and 5"),
        (entry(box=[np.arange(9.0)] * 9**4), "E104", "its box is a list"),
    ],
)
def test_pickle_that_is_small_and_means_much_is_refused_at_once(
    path, value, code, words
):
    write_pickle(path, [value])
    with pytest.raises(AnnotationError, match=words) as caught:
        read_object_list(path)
    assert codes(caught) == {code} and len(str(caught.value)) < 500


def test_one_mask_of_many_objects_is_no_way_to_fill_memory(path, monkeypatch):
    monkeypatch.setattr(object_lists, "_MAX_BYTES", 10_000)
    rle = {"size": [6, 8], "counts": b"0" * 3000}
    write_pickle(path, [entry(number, rle=rle) for number in range(9)])
    with pytest.raises(AnnotationError, match="6 of 9 entries") as caught:
        read_object_list(path)
    assert codes(caught) == {"E115"}


@settings(deadline=None, max_examples=300)
@given(protocol=st.sampled_from(PROTOCOLS), data=st.data())
def test_damaged_pickle_gives_entries_or_an_error(tmp_path_factory, protocol, data):
    program = bytearray(
        pickle.dumps(
            [entry(np.int64(7), box=np.arange(4.0))],
            data.draw(st.sampled_from(PROTOCOLS)),
        )
    )
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(program) - 1))
        program[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(program)
    try:
        assert isinstance(read_object_list(path), list)
    except AnnotationError as error:
        assert {problem.code for problem in error.problems} <= {
            *("E101", "E102", "E104", "E105", "E211", "E401")
        }


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        (entry()[:4], "E102", "entry 1: it is a list of 4"),
        ("text", "E102", "entry 1: it is 'text'"),
        (entry(file_name=5), "E102", "its names are 5 and 'chair'"),
        (entry(class_name=["a"]), "E102", "and a list"),
        (entry(2.5), "E105", "2.5 is not an annotation id"),
        (entry(True), "E105", "True is not an annotation id"),
        (entry(box=[1, 2, 3]), "E104", "its box is a list"),
        (entry(box=[1, 2, 3, float("nan")]), "E104", "finite numbers"),
        (entry(box=[1, 2, 3, "4"]), "E104", "finite numbers"),
        (entry(rle=[[1, 2, 3, 4, 5, 6]]), "E211", "its mask is a list"),
        (entry(rle={"counts": "a"}), "E211", "size of its RLE is None"),
        (entry(rle={"size": [0, 4], "counts": "a"}), "E211", "size of its RLE"),
        (entry(rle={"size": [2, 4], "counts": 7}), "E211", "counts of its RLE are 7"),
    ],
)
def test_entry_of_another_form_is_named(path, value, code, words):
    write_pickle(path, [entry(), value])
    with pytest.raises(AnnotationError, match=words) as caught:
        read_object_list(path)
    assert codes(caught) == {code}
    assert "1 of 2 entries cannot be used" in str(caught.value)


def test_all_wrong_entries_are_told_together(path):
    write_pickle(path, [entry(2.5)] * 30 + [entry()])
    with pytest.raises(AnnotationError, match="30 of 31 .*\n(.*\n){20}  and 10 more$"):
        read_object_list(path)


def test_file_that_is_too_large_is_not_read(path, monkeypatch):
    write_pickle(path, [entry()])
    monkeypatch.setattr(object_lists, "_MAX_BYTES", 50)
    with pytest.raises(AnnotationError, match="has at most 50") as caught:
        read_object_ids(path)
    assert codes(caught) == {"E115"}


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="object list .*none.pkl does not"):
        read_object_ids(tmp_path / "none.pkl")


# Masks


def test_masks_that_differ_from_the_annotations_are_found(path):
    polygon = [[1, 1, 5, 1, 5, 3, 1, 3]]  # the same mask
    write_pickle(path, [entry(i) for i in range(1, 7)])
    found = compare_with(
        read_object_list(path),
        {
            1: (coded(mask_of(1)), 6, 8),
            2: (listed(mask_of(1)), 6, 8),
            3: (polygon, 6, 8),
            4: (coded(mask_of(2)), 6, 8),
            5: ([[1, 2, 3]], 6, 8),  # cannot be decoded
        },
    )
    assert found.differing == {4, 5}
    assert found.unknown == {6}


def test_mask_of_another_size_differs(path):
    write_pickle(path, [entry(1)])
    found = compare_with(read_object_list(path), {1: (coded(mask_of(1).T), 8, 6)})
    assert found.differing == {1}


def test_lists_beside_the_real_files_are_read():
    if not os.environ.get("EXITS_DATA"):
        pytest.skip("EXITS_DATA, the folder of test data, is not set")
    paths = sorted(Path(os.environ["EXITS_DATA"]).rglob("*_separated_ids.json"))
    assert len(paths) >= 5
    assert sum(len(read_object_ids(path)) for path in paths) > 100


def test_real_masks_are_equal_to_themselves(path):
    if not os.environ.get("EXITS_DATA"):
        pytest.skip("EXITS_DATA, the folder of test data, is not set")
    source = Path(os.environ["EXITS_DATA"]) / "coco_mini" / "annotations" / "val.json"
    coco = COCO(str(source))
    names = {
        category["id"]: category["name"] for category in coco.dataset["categories"]
    }
    values, annotations = [], {}
    for record in coco.dataset["annotations"]:
        image = coco.imgs[record["image_id"]]
        values.append(
            entry(
                record["id"],
                file_name=image["file_name"],
                class_name=names[record["category_id"]],
                box=record["bbox"],
                rle=coco.annToRLE(record),
            )
        )
        size = image["height"], image["width"]
        annotations[record["id"]] = (record["segmentation"], *size)
    write_pickle(path, values)
    listed_objects = read_object_list(path)
    assert len(listed_objects) > 1000
    assert compare_with(listed_objects, annotations) == (set(), set())
