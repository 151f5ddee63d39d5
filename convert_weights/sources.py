"""Reads checkpoint files as arrays. Nothing in a file is ever executed."""

import argparse
import hashlib
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_PYTORCH = (".pth", ".pt", ".bin", ".ckpt")
_SUFFIXES = (".safetensors", *_PYTORCH, ".npz")
_CONTAINERS = ("model", "state_dict")
_BRANCHES = ("student", "teacher")  # of DINO; each holds tensors
_FOLDER_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


class SourceError(ValueError):
    """A file that cannot be read as weights; the message is one line."""


def read_source(path: Path) -> dict[str, np.ndarray]:
    """Reads all tensors of a checkpoint file or a Hugging Face folder.

    Args:
      path: the checkpoint. PyTorch files are read with `weights_only=True`, so a
        pickle that asks for anything but tensors is refused before it runs; `.npz`
        files without pickles.

    Returns:
      Tensor name -> array; bfloat16 becomes float32, other types stay.

    Raises:
      FileNotFoundError: there is no such file.
      SourceError: it is not a weights file, is cut short, or wants to run code.
    """
    tensors: dict[str, np.ndarray] = {}
    for file in files_of(path):
        if file.suffix not in _SUFFIXES:
            raise SourceError(
                f"{file}: the suffix {file.suffix!r} is not known. "
                f"Expected one of {_listed(_SUFFIXES)}."
            )
        _refuse_what_is_no_checkpoint(file)
        tensors |= _reader(file)(file)
    if not tensors:
        raise SourceError(f"{path}: holds no tensors.")
    return tensors


def files_of(path: Path) -> list[Path]:
    """The files of weights that a source consists of: one, or the shards of a folder.

    Raises:
      FileNotFoundError: there is no such file.
      SourceError: it is a folder that holds none.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    if path.is_file():
        return [path]
    found = next((name for name in _FOLDER_FILES if (path / name).is_file()), None)
    if found is None:
        raise SourceError(
            f"{path}: not a file, nor a folder with {_listed(_FOLDER_FILES)}. "
            f"Expected one of {_listed(_SUFFIXES)}."
        )
    if not found.endswith(".json"):
        return [path / found]
    index = read_json(path / found).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise SourceError(f"{path / found}: no 'weight_map'.")
    shards = [path / Path(str(name)).name for name in sorted(set(index.values()))]
    for shard in shards:
        if not shard.is_file():
            raise FileNotFoundError(f"{shard}: no such file, but {found} names it.")
    return shards


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says about itself; empty for other files."""
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    return {str(k): str(v) for k, v in _header(path).get("__metadata__", {}).items()}


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
      SourceError: the file is something else.
    """
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise SourceError(f"{path}: not JSON ({error}).") from None
    if not isinstance(content, dict):
        raise SourceError(f"{path}: expected a JSON object.")
    return content


def digest(*paths: Path) -> str:
    """Computes the SHA-256 of a file (of all, one after the other), in hexadecimal."""
    sha = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                sha.update(block)
    return sha.hexdigest()


def _reader(path: Path):
    if path.suffix == ".npz":
        return _read_npz
    return _read_pytorch if path.suffix in _PYTORCH else _read_safetensors


def _refuse_what_is_no_checkpoint(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise SourceError(f"{path}: the file is empty.")
    if head.startswith(b"version https://git-lfs"):
        raise SourceError(
            f"{path}: a Git LFS pointer, not the weights. Run `git lfs pull` first."
        )
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|!--)", head, re.I):
        raise SourceError(
            f"{path}: an HTML page, not the weights. The download probably needs "
            "a login or another address."
        )


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Views of the file, so that a large one is not held in memory twice."""
    header = _header(path)
    header.pop("__metadata__", None)
    content = np.asarray(np.memmap(path, np.uint8, "r"))
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    return {
        name: _to_array(path, name, entry, content[start:])
        for name, entry in header.items()
    }


def _header(path: Path) -> dict[str, Any]:
    import safetensors

    try:
        with safetensors.safe_open(str(path), framework="numpy"):
            pass  # checks that the header is one and that all it names is there
    except safetensors.SafetensorError as error:
        reason = str(error).replace("Error while deserializing header: ", "")
        raise SourceError(
            f"{path}: cut short or not a safetensors file ({reason})."
        ) from None
    with path.open("rb") as file:
        return json.loads(file.read(int.from_bytes(file.read(8), "little")))


def _to_array(
    path: Path, name: str, entry: Mapping[str, Any], content: np.ndarray
) -> np.ndarray:
    dtype = entry["dtype"]
    first, last = entry["data_offsets"]
    if dtype == "BF16":  # the upper half of a float32
        values = _widened(content[first:last])
    elif dtype in _DTYPES:
        values = content[first:last].view(_DTYPES[dtype])
    else:
        raise SourceError(
            f"{path}: tensor {name} has type {dtype}, which cannot be converted. "
            f"Expected one of BF16, {_listed(_DTYPES)}."
        )
    return values.reshape(entry["shape"])


def _widened(halves: np.ndarray) -> np.ndarray:
    return (halves.view("<u2").astype("<u4") << 16).view("<f4")


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    if not zipfile.is_zipfile(path):
        raise SourceError(f"{path}: cut short or not an .npz file.")
    try:
        with np.load(path, allow_pickle=False) as content:
            for name in content.files:
                tensors |= _unstacked(name, content[name])
    except Exception as error:  # a broken archive can raise anything at all
        if "allow_pickle" in str(error):
            raise SourceError(
                f"{path}: refused, it holds pickled objects; nothing was executed. "
                "Expected arrays only."
            ) from None
        raise SourceError(
            f"{path}: cut short or not an .npz file ({type(error).__name__} while "
            "reading)."
        ) from None
    return tensors


def _unstacked(name: str, value: np.ndarray) -> dict[str, np.ndarray]:
    """One array per block where all blocks are stacked in one; bfloat16 widened."""
    if value.dtype.kind == "V" and value.dtype.itemsize == 2:
        value = _widened(np.ascontiguousarray(value).reshape(-1)).reshape(value.shape)
    if "encoderblock/" not in name or value.ndim == 0:
        return {name: value}
    return {
        name.replace("encoderblock/", f"encoderblock_{i}/"): block
        for i, block in enumerate(value)
    }


def _read_pytorch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch  # pyright: ignore[reportMissingImports]  (optional)
    except ImportError:
        raise SourceError(
            f"{path}: reading this file needs PyTorch. "
            "Install it with `pip install 'exits-jax[convert]'`."
        ) from None

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols, said below
            # Training scripts store their command line beside the weights. It is
            # plain data, so reading it runs nothing.
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle can raise anything at all
        raise SourceError(_why_pytorch_refused(path, error)) from None

    if isinstance(content, Mapping):
        for key in _CONTAINERS:
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
        else:
            content = _branches(content)
    if not isinstance(content, Mapping):
        raise SourceError(
            f"{path}: holds a {type(content).__name__}, expected a dictionary of "
            f"tensors, or one under {_listed(map(repr, _CONTAINERS))}."
        )
    others = [str(k) for k, v in content.items() if not isinstance(v, torch.Tensor)]
    if others:
        raise SourceError(
            f"{path}: not tensors: {_listed(others[:8])}. Expected a dictionary of "
            f"tensors, or one under {_listed(map(repr, _CONTAINERS))}."
        )
    return {str(name): _from_torch(path, name, v) for name, v in content.items()}


def _branches(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Student and teacher of a DINO checkpoint as one, each behind its name."""
    found = [key for key in _BRANCHES if isinstance(content.get(key), Mapping)]
    if not found:
        return content
    return {
        f"{branch}.{name}": value
        for branch in found
        for name, value in content[branch].items()
    }


def _from_torch(path: Path, name: str, tensor: Any) -> np.ndarray:
    try:
        if str(tensor.dtype) == "torch.bfloat16":
            tensor = tensor.float()
        return tensor.detach().numpy()
    except Exception:  # sparse, quantised, complex halves, tensors without storage
        raise SourceError(
            f"{path}: tensor {name} ({tensor.dtype}, {tensor.layout}) cannot be read "
            "as an array. Expected a dense tensor of floating point values."
        ) from None


def _why_pytorch_refused(path: Path, error: Exception) -> str:
    asked = re.search(r"GLOBAL ([\w.]+)", str(error))
    if asked:
        return (
            f"{path}: refused, the pickle asks for {asked[1]}; nothing was executed. "
            "Expected tensors only: save the state dict alone, best as safetensors."
        )
    if "TorchScript" in str(error):
        return f"{path}: a TorchScript program. Expected a state dict of tensors."
    with path.open("rb") as file:
        is_bare_pickle = file.read(1) == b"\x80"
    if is_bare_pickle and isinstance(error, pickle.UnpicklingError):
        return (
            f"{path}: refused, a pickle that is not plain tensors; nothing was "
            "executed. Expected a state dict of tensors, best as safetensors."
        )
    return (
        f"{path}: cut short or not a PyTorch weights file "
        f"({type(error).__name__} while reading)."
    )


def _listed(names: Sequence[str] | Any) -> str:
    return ", ".join(names)
