"""Files that are small and mean much, or names that are more than names."""

import io
import json
import struct
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from convert_weights.sources import SourceError, files_of, read_metadata, read_source
from exits_jax.models.weights import read_encoder


def safetensors(path, shape=(1,), name="x", **metadata):
    """A file with one tensor, whose header says what it is told to say."""
    size = 0 if 0 in shape else 4
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": metadata, name: entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    return path


def packed(path, name, shape, content):
    """An .npz with one array, whose header says what it is told to say."""
    head = io.BytesIO()
    said = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, said)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", head.getvalue() + content)
    return path


@pytest.mark.parametrize("shape", [[0, 2**62], [2**62, 0, 2**62], [1] * 100])
def test_a_shape_that_no_array_has_is_named(tmp_path, shape):
    path = safetensors(tmp_path / "a.safetensors", shape)
    with pytest.raises(SourceError, match="tensor x has the shape .* no array can"):
        read_source(path)
    with pytest.raises(ValueError, match="a.safetensors"):
        read_encoder(path)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    arrays = {"position_table": np.ones(3, np.float32), "b": np.float32([1, value])}
    save_file(arrays, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="1 of 2 tensors hold NaN .* the first: b"):
        read_encoder(tmp_path / "a.safetensors")


def test_names_of_tensors_hold_no_control_characters(tmp_path):
    path = safetensors(tmp_path / "a.safetensors", name="x\nwrote weights\x1b[2K")
    with pytest.raises(SourceError, match=r"name 'x\\nwrote weights\\x1b\[2K'"):
        read_source(path)
    with pytest.raises(ValueError, match="is no name of a tensor"):
        read_encoder(path)


def test_what_a_file_says_of_itself_is_one_line_each(tmp_path):
    path = safetensors(tmp_path / "a.safetensors", licence="MIT\n\x1b[31mheads: 3")
    assert read_metadata(path) == {"licence": r"MIT\n\x1b[31mheads: 3"}


@pytest.mark.parametrize("names", [[1], 3, {"a": [1]}, {"a": {}}, {"a": "x\ny"}, {}])
def test_an_index_that_names_no_files_is_refused(tmp_path, names):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    with pytest.raises(SourceError, match="weight_map"):
        files_of(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"weight_map": ' * 50_000])
def test_an_index_that_is_nested_without_end_is_no_json(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(SourceError, match="not JSON") as caught:
        files_of(tmp_path)
    assert len(str(caught.value)) < 500


def test_an_archive_is_judged_before_it_is_unpacked(tmp_path):
    path = packed(tmp_path / "a.npz", "x", (2**23,), bytes(2**25))
    assert path.stat().st_size < 2**17
    with pytest.raises(SourceError, match=r"unpack to 335\d{5}; weights do not"):
        read_source(path)


@pytest.mark.parametrize("shape", [(2**40,), (2**62, 2**62)])
def test_an_array_cannot_claim_more_than_its_archive_holds(tmp_path, shape):
    path = packed(tmp_path / "a.npz", "x", shape, bytes(100))
    with pytest.raises(SourceError, match="cut short or not an .npz file"):
        read_source(path)


def test_blocks_without_values_are_not_counted_out(tmp_path):
    path = packed(tmp_path / "a.npz", "encoderblock/x", (2**25, 0), b"")
    assert [array.shape for array in read_source(path).values()] == [(2**25, 0)]


@pytest.mark.torch
def test_a_tensor_that_repeats_itself_is_not_written_out(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"x": torch.zeros(1).expand(2**31)}, tmp_path / "a.pth")
    with pytest.raises(SourceError, match=r"be read as an array of \[2147483648"):
        read_source(tmp_path / "a.pth")
