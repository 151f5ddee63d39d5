import struct
import zlib

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from exits_jax.data.records import AnnotationError
from exits_jax.datasets.sbd import read_mat
from tests.support.voc_tree import PLAIN, write_mat


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64])
@pytest.mark.parametrize("do_compression", [False, True])
def test_mat_gives_what_scipy_gives(tmp_path, dtype, do_compression):
    path = tmp_path / "a.mat"
    write_mat(path, PLAIN.astype(dtype), (3, 4), do_compression=do_compression)
    numbers, classes = read_mat(path)
    expected = scipy.io.loadmat(path)["GTinst"]["Segmentation"][0, 0]
    np.testing.assert_array_equal(numbers, expected)
    assert classes == {1: 3, 2: 4}


def test_other_order_of_fields_and_other_variables_do_not_matter(tmp_path):
    truth = {"Categories": [[9, 8]], "Other": "text", "Segmentation": PLAIN}
    content = {"a": np.eye(3), "GTinst": truth, "z": {"Segmentation": 1}}
    scipy.io.savemat(tmp_path / "a.mat", content)
    numbers, classes = read_mat(tmp_path / "a.mat")
    np.testing.assert_array_equal(numbers, PLAIN)
    assert classes == {1: 9, 2: 8}


@pytest.mark.parametrize("none", [np.zeros((0, 0)), np.zeros((0, 1), np.uint8)])
def test_mat_without_instances_is_empty(tmp_path, none):
    truth = {"Segmentation": np.zeros((4, 5), np.uint8), "Categories": none}
    scipy.io.savemat(tmp_path / "a.mat", {"GTinst": truth})
    numbers, classes = read_mat(tmp_path / "a.mat")
    assert numbers.shape == (4, 5) and not numbers.any()
    assert classes == {}


SOUND = {"Segmentation": PLAIN, "Categories": [[1, 2]]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"GTcls": SOUND}, "does not hold one struct GTinst"),
        ({"GTinst": np.eye(2)}, "does not hold one struct GTinst"),
        ({"GTinst": {"Segmentation": PLAIN}}, "has no field Categories"),
        ({"GTinst": {**SOUND, "Segmentation": "text"}}, "not hold plain numbers"),
        ({"GTinst": {**SOUND, "Segmentation": PLAIN * 1j}}, "not hold plain numbers"),
        ({"GTinst": {**SOUND, "Segmentation": PLAIN / 3}}, "whole numbers from 0"),
        ({"GTinst": {**SOUND, "Segmentation": PLAIN - 5.0}}, "whole numbers from 0"),
        ({"GTinst": {**SOUND, "Segmentation": PLAIN * 1e9}}, "whole numbers from 0"),
        ({"GTinst": {**SOUND, "Segmentation": PLAIN + np.nan}}, "whole numbers"),
        ({"GTinst": {**SOUND, "Segmentation": []}}, "has the shape"),
        ({"GTinst": {**SOUND, "Segmentation": np.ones((2, 2, 2))}}, "has the shape"),
        ({"GTinst": {**SOUND, "Categories": {"a": 1}}}, "not hold plain numbers"),
    ],
)
def test_mat_of_other_content_is_refused(tmp_path, content, words):
    scipy.io.savemat(tmp_path / "a.mat", content)
    with pytest.raises(AnnotationError, match=words) as caught:
        read_mat(tmp_path / "a.mat")
    assert caught.value.problems[0].code == "E113"


def element(kind, content):
    padding = b"\0" * (-len(content) % 8)
    return struct.pack("<II", kind, len(content)) + content + padding


def array(kind, *parts, name=b"", shape=(1, 1)):
    head = element(6, struct.pack("<II", kind, 0))
    head += element(5, struct.pack(f"<{len(shape)}i", *shape)) + element(1, name)
    return element(14, head + b"".join(parts))


def number_array(values, name=b""):
    values = np.atleast_2d(np.asarray(values, np.uint8))
    return array(9, element(2, values.tobytes("F")), name=name, shape=values.shape)


def truth_array(**fields):
    names = b"".join(name.encode().ljust(16, b"\0") for name in fields)
    width = struct.pack("<HHi", 5, 4, 16)
    return array(2, width, element(1, names), *fields.values(), name=b"GTinst")


def write_raw(path, *variables):
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    path.write_bytes(head + b"".join(variables))
    return path


FIELDS = {"Segmentation": number_array(PLAIN), "Categories": number_array([[1], [2]])}


def test_raw_bytes_of_these_tests_are_a_sound_file(tmp_path):
    path = write_raw(tmp_path / "a.mat", truth_array(**FIELDS))
    numbers, classes = read_mat(path)
    np.testing.assert_array_equal(numbers, PLAIN)
    assert classes == {1: 1, 2: 2}
    assert scipy.io.loadmat(path)["GTinst"]["Categories"][0, 0].tolist() == [[1], [2]]


@pytest.mark.parametrize("kind", [3, 16, 17, 18])
@pytest.mark.parametrize("as_field", [True, False])
def test_functions_and_objects_are_refused(tmp_path, kind, as_field):
    code = array(kind, element(1, b"system"))
    extra = truth_array(**FIELDS, Extra=code) if as_field else truth_array(**FIELDS)
    path = write_raw(tmp_path / "a.mat", extra, *[code] * (not as_field))
    with pytest.raises(AnnotationError, match="a function or an object") as caught:
        read_mat(path)
    assert caught.value.problems[0].code == "E401"


def test_cells_may_be_nested_as_deep_as_they_like(tmp_path):
    # A reader that descends into them ends the process.
    parts, size = [], 0
    for _ in range(100_000):
        head = array(1)[8:]
        parts.append(struct.pack("<II", 14, len(head) + size) + head)
        size += len(parts[-1])
    nested = b"".join(reversed(parts))
    path = write_raw(tmp_path / "a.mat", truth_array(**FIELDS, Boundaries=nested))
    assert read_mat(path)[1] == {1: 1, 2: 2}


def test_packed_file_that_would_fill_the_memory_is_refused(tmp_path):
    packed = zlib.compress(bytes(2**27))
    path = write_raw(tmp_path / "a.mat", element(15, packed)[: 8 + len(packed)])
    with pytest.raises(AnnotationError, match="unpacks to more than 67108864 bytes"):
        read_mat(path)


def test_shape_that_the_file_cannot_fill_is_refused(tmp_path):
    huge = array(9, element(2, bytes(8)), shape=(2**30, 2**30))
    path = write_raw(
        tmp_path / "a.mat", truth_array(**{**FIELDS, "Segmentation": huge})
    )
    with pytest.raises(AnnotationError, match="8 bytes for the shape"):
        read_mat(path)


@pytest.mark.parametrize("start", [b"", b"MATLAB 7.3 MAT-file", b"\x89HDF"])
def test_file_of_another_format_is_refused(tmp_path, start):
    (tmp_path / "a.mat").write_bytes(start)
    with pytest.raises(AnnotationError, match="no MATLAB file of version 5 to 7"):
        read_mat(tmp_path / "a.mat")


def test_later_format_is_refused_by_its_number(tmp_path):
    head = b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<H", 0x0200) + b"IM"
    (tmp_path / "a.mat").write_bytes(head)
    with pytest.raises(AnnotationError, match="format 0x200 is not"):
        read_mat(tmp_path / "a.mat")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("mat")


@settings(deadline=None, max_examples=300)
@given(
    changes=st.lists(st.tuples(st.integers(124, 900), st.integers(0, 255)), max_size=3),
    length=st.integers(0, 1200),
)
def test_damaged_file_gives_masks_or_an_error(scratch, changes, length):
    path = write_raw(scratch / "a.mat", truth_array(**FIELDS))
    data = bytearray(path.read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    path.write_bytes(data[: length or None])
    try:
        numbers, _ = read_mat(path)
        assert numbers.ndim == 2
    except AnnotationError as error:
        assert error.problems[0].code in {"E113", "E401"}
