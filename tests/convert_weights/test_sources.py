"""Files that are weights, and files that only look like it."""

import argparse
import os
import pickle

import numpy as np
import pytest
from safetensors.numpy import save_file

from convert_weights.sources import SourceError, digest, read_source
from tests.support import checkpoints


class Attack:
    """A pickle that makes a file when it is executed."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def write(path, content):
    path.write_bytes(content)
    return path


def test_safetensors_keep_names_and_values(tmp_path):
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2)}
    save_file(tensors, tmp_path / "x.safetensors")
    read = read_source(tmp_path / "x.safetensors")
    assert read.keys() == tensors.keys()
    np.testing.assert_array_equal(read["a"], tensors["a"])


def test_bfloat16_becomes_float32(tmp_path):
    header = b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    halves = np.array([1.5, -2.0], "<f4").view("<u4") >> 16
    content = (
        len(header).to_bytes(8, "little") + header + halves.astype("<u2").tobytes()
    )
    read = read_source(write(tmp_path / "x.safetensors", content))
    np.testing.assert_array_equal(read["a"], np.array([1.5, -2.0], np.float32))


def test_eight_bit_floats_are_refused_by_name(tmp_path):
    header = b'{"a":{"dtype":"F8_E5M2","shape":[4],"data_offsets":[0,4]}}'
    path = write(
        tmp_path / "x.safetensors",
        len(header).to_bytes(8, "little") + header + bytes(4),
    )
    with pytest.raises(SourceError, match="tensor a has type F8_E5M2, which cannot"):
        read_source(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.pth: no such file"):
        read_source(tmp_path / "gone.pth")


def test_folder_is_refused(tmp_path):
    with pytest.raises(SourceError, match="not a file"):
        read_source(tmp_path)


def test_unknown_suffix_lists_the_known_ones(tmp_path):
    path = write(tmp_path / "x.onnx", b"PK")
    with pytest.raises(
        SourceError, match=r"'.onnx'.*\.safetensors, \.pth, \.pt, \.bin"
    ):
        read_source(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "the file is empty"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "a Git LFS pointer, not the weights",
        ),
        (b"<!DOCTYPE html><html></html>", "an HTML page, not the weights"),
        (b"\n <HTML><body>Sign in</body>", "an HTML page, not the weights"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path, suffix, content, words):
    with pytest.raises(SourceError, match=words):
        read_source(write(tmp_path / f"x{suffix}", content))


@pytest.mark.parametrize("keep", [1, 7, 30, -1])
def test_truncated_safetensors_is_refused(tmp_path, keep):
    save_file({"a": np.ones(50)}, tmp_path / "whole.safetensors")
    content = (tmp_path / "whole.safetensors").read_bytes()
    with pytest.raises(SourceError, match="cut short or not a safetensors file"):
        read_source(write(tmp_path / "x.safetensors", content[:keep]))


def test_safetensors_without_tensors_is_refused(tmp_path):
    path = write(tmp_path / "x.safetensors", (2).to_bytes(8, "little") + b"{}")
    with pytest.raises(SourceError, match="holds no tensors"):
        read_source(path)


def test_digest_is_the_sha256_of_the_bytes(tmp_path):
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest(write(tmp_path / "x", b"abc")) == expected


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.mark.torch
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
@pytest.mark.parametrize("container", [None, "model", "state_dict"])
def test_pytorch_containers_are_unwrapped(torch, tmp_path, suffix, container):
    state = {"a": torch.arange(3.0), "b": torch.ones(2, dtype=torch.bfloat16)}
    content = state if container is None else {container: state, "epoch": 3}
    torch.save(content, tmp_path / f"x{suffix}")
    read = read_source(tmp_path / f"x{suffix}")
    np.testing.assert_array_equal(read["a"], [0.0, 1.0, 2.0])
    assert read["b"].dtype == np.float32


@pytest.mark.torch
@pytest.mark.parametrize("protocol", [2, 4])
def test_hostile_pickle_is_refused_and_never_executed(torch, tmp_path, protocol):
    mark = tmp_path / "executed"
    path = write(tmp_path / "x.pth", pickle.dumps(Attack(mark), protocol=protocol))
    with pytest.raises(SourceError, match="refused, .*nothing was executed") as caught:
        read_source(path)
    assert not mark.exists()
    assert "\n" not in str(caught.value)


@pytest.mark.torch
def test_hostile_object_beside_the_tensors_is_refused_by_name(torch, tmp_path):
    mark = tmp_path / "executed"
    torch.save({"model": {"a": torch.ones(1)}, "b": Attack(mark)}, tmp_path / "x.pth")
    with pytest.raises(SourceError, match=f"asks for {os.system.__module__}.system;"):
        read_source(tmp_path / "x.pth")
    assert not mark.exists()


@pytest.mark.torch
def test_truncated_pytorch_file_is_refused(torch, tmp_path):
    torch.save({"a": torch.ones(500)}, tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    path = write(tmp_path / "x.pth", content[: len(content) // 2])
    with pytest.raises(SourceError, match="cut short or not a PyTorch weights file"):
        read_source(path)


@pytest.mark.torch
@pytest.mark.parametrize("content", [b"hello", bytes(100), b"\x1f\x8b" + bytes(50)])
def test_other_bytes_are_refused(torch, tmp_path, content):
    with pytest.raises(SourceError, match="not a PyTorch weights file"):
        read_source(write(tmp_path / "x.pth", content))


@pytest.mark.torch
def test_dictionaries_of_other_names_are_listed(torch, tmp_path):
    state = {"a": torch.ones(1)}
    torch.save({"ema": state, "best": state}, tmp_path / "x.pth")
    with pytest.raises(SourceError, match="not tensors: ema, best. Expected"):
        read_source(tmp_path / "x.pth")


@pytest.mark.torch
def test_list_instead_of_a_dictionary_is_refused(torch, tmp_path):
    torch.save([torch.ones(1)], tmp_path / "x.pth")
    with pytest.raises(SourceError, match="holds a list, expected a dictionary"):
        read_source(tmp_path / "x.pth")


@pytest.mark.torch
def test_sparse_tensor_is_refused_by_name(torch, tmp_path):
    torch.save({"a": torch.eye(3).to_sparse()}, tmp_path / "x.pth")
    with pytest.raises(SourceError, match="tensor a .* cannot be read as an array"):
        read_source(tmp_path / "x.pth")


def test_npz_keeps_names_and_values(tmp_path):
    np.savez(tmp_path / "x.npz", **{"a/b": np.arange(3.0)})
    np.testing.assert_array_equal(read_source(tmp_path / "x.npz")["a/b"], [0, 1, 2])


def test_bfloat16_of_an_npz_becomes_float32(tmp_path):
    halves = (np.array([1.5, -2.0], "<f4").view("<u4") >> 16).astype("<u2")
    np.savez(tmp_path / "x.npz", a=halves.view("V2"))
    read = read_source(tmp_path / "x.npz")
    np.testing.assert_array_equal(read["a"], np.array([1.5, -2.0], np.float32))


def test_stacked_blocks_become_one_array_each(tmp_path):
    arrays = checkpoints.npz(checkpoints.timm(), big_vision=True)
    np.savez(tmp_path / "x.npz", **checkpoints.stacked(arrays))
    read = read_source(tmp_path / "x.npz")
    assert read.keys() == arrays.keys()
    name = "Transformer/encoderblock_1/MlpBlock_0/Dense_0/bias"
    np.testing.assert_array_equal(read[name], arrays[name])


def test_pickled_object_in_an_npz_is_refused_and_never_executed(tmp_path):
    mark = tmp_path / "executed"
    np.savez(tmp_path / "x.npz", a=np.array([Attack(mark)], dtype=object))
    with pytest.raises(SourceError, match="refused, it holds pickled objects"):
        read_source(tmp_path / "x.npz")
    assert not mark.exists()


@pytest.mark.parametrize("keep", [10, 300])
def test_truncated_npz_is_refused(tmp_path, keep):
    np.savez(tmp_path / "whole.npz", a=np.ones(500))
    content = (tmp_path / "whole.npz").read_bytes()
    with pytest.raises(SourceError, match="cut short or not an .npz file"):
        read_source(write(tmp_path / "x.npz", content[:keep]))


@pytest.mark.torch
def test_both_branches_of_dino_are_read_behind_their_names(torch, tmp_path):
    content = {
        "student": {"module.a": torch.ones(1)},
        "teacher": {"a": torch.ones(1)},
        "optimizer": {"state": {}},
        "epoch": 3,
        "args": argparse.Namespace(arch="vit_base", lr=0.1),
    }
    torch.save(content, tmp_path / "x.pth")
    assert read_source(tmp_path / "x.pth").keys() == {"student.module.a", "teacher.a"}


@pytest.mark.torch
def test_attack_inside_the_command_line_of_a_training_is_refused(torch, tmp_path):
    mark = tmp_path / "executed"
    args = argparse.Namespace(arch=Attack(mark))
    torch.save({"model": {"a": torch.ones(1)}, "args": args}, tmp_path / "x.pth")
    with pytest.raises(SourceError, match="nothing was executed"):
        read_source(tmp_path / "x.pth")
    assert not mark.exists()


def test_numpy_numbers_beside_the_weights_are_plain_data(tmp_path):
    torch = pytest.importorskip("torch")
    numbers = {"lr": np.float64(0.1), "step": np.int64(3), "on": np.bool_(True)}
    content = {"state_dict": {"a": torch.ones(2)}, "optimizer": numbers}
    torch.save(content, tmp_path / "x.pth")
    assert read_source(tmp_path / "x.pth").keys() == {"a"}


@pytest.mark.parametrize("value", ["objects", "numbers"])
def test_numpy_arrays_in_a_pickle_stay_refused(tmp_path, value):
    torch = pytest.importorskip("torch")
    array = np.array([Attack(tmp_path / "ran")]) if value == "objects" else np.ones(2)
    torch.save({"state_dict": {"a": torch.ones(2)}, "x": array}, tmp_path / "x.pth")
    with pytest.raises(SourceError, match="nothing was executed"):
        read_source(tmp_path / "x.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("prefix", "read"),
    [
        ("module.", ""),
        ("_orig_mod.", ""),
        ("module._orig_mod.", ""),
        ("backbone.", ""),
        ("teacher.", ""),
        ("teacher.module.", ""),
        ("teacher.backbone.", "teacher.backbone."),
        ("teacher.module.backbone.", "teacher.module.backbone."),
    ],
)
def test_wrappers_before_every_name_are_left_out(tmp_path, prefix, read):
    names = ("blocks.0.w", "norm.b")
    tensors = {f"{prefix}{name}": np.ones(2) for name in names}
    save_file(tensors, tmp_path / "x.safetensors")
    found = read_source(tmp_path / "x.safetensors")
    assert found.keys() == {f"{read}{name}" for name in names}


def test_a_prefix_of_some_names_stays(tmp_path):
    tensors = {"backbone.w": np.ones(2), "head.w": np.ones(2)}
    save_file(tensors, tmp_path / "x.safetensors")
    assert read_source(tmp_path / "x.safetensors").keys() == tensors.keys()
