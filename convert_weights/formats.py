"""Readers of the file formats that weights come in. Nothing in a file is executed."""

import argparse
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from exits_jax.files.words import how_to_install

_CONTAINERS = ("model", "state_dict")
_BRANCHES = ("student", "teacher")  # of DINO; each holds tensors
_MOST_PACKED = 16  # times its size that an archive may unpack to: weights hardly shrink
_MOST_BLOCKS = 1000
_MOST_REPEATED = 2**20  # values of a tensor that shares its memory with itself
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


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Views of the file, so that a large one is not held in memory twice."""
    header = read_header(path)
    header.pop("__metadata__", None)
    content = np.asarray(np.memmap(path, np.uint8, "r"))
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    return {
        name: _to_array(path, name, entry, content[start:])
        for name, entry in header.items()
    }


def read_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file, checked."""
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
            f"Expected one of BF16, {listed(_DTYPES)}."
        )
    try:
        return values.reshape(entry["shape"])
    except ValueError:
        raise SourceError(
            f"{path}: tensor {name} has the shape {entry['shape']!s:.80}, which no "
            "array can have."
        ) from None


def _widened(halves: np.ndarray) -> np.ndarray:
    return (halves.view("<u2").astype("<u4") << 16).view("<f4")


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays, without pickles."""
    tensors: dict[str, np.ndarray] = {}
    if not zipfile.is_zipfile(path):
        raise SourceError(f"{path}: cut short or not an .npz file.")
    _refuse_bomb(path)
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


def _refuse_bomb(path: Path) -> None:
    """Looks at sizes before anything is unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError):
        return  # said when it is read
    if unpacked > _MOST_PACKED * path.stat().st_size + 2**20:
        raise SourceError(
            f"{path}: refused, its {path.stat().st_size} bytes unpack to {unpacked}; "
            "weights do not shrink so much."
        )


def _unstacked(name: str, value: np.ndarray) -> dict[str, np.ndarray]:
    """One array per block where all blocks are stacked in one; bfloat16 widened."""
    if value.dtype.kind == "V" and value.dtype.itemsize == 2:
        value = _widened(np.ascontiguousarray(value).reshape(-1)).reshape(value.shape)
    is_stacked = "encoderblock/" in name and value.ndim > 0 and value.size > 0
    if not is_stacked or len(value) > _MOST_BLOCKS:
        return {name: value}
    return {
        name.replace("encoderblock/", f"encoderblock_{i}/"): block
        for i, block in enumerate(value)
    }


def read_pytorch(path: Path) -> dict[str, np.ndarray]:
    """All tensors of the state dict, read with `weights_only=True`."""
    try:
        import torch  # pyright: ignore[reportMissingImports]  (optional)
    except ImportError:
        raise SourceError(
            f"{path}: reading this file needs PyTorch. {how_to_install('convert')}"
        ) from None

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols, said below
            # Training scripts store their command line and NumPy numbers beside the
            # weights. They are plain data, so reading them runs nothing.
            plain = [argparse.Namespace, *_numpy_numbers()]
            with torch.serialization.safe_globals(plain):
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
            f"tensors, or one under {listed(map(repr, _CONTAINERS))}."
        )
    others = [str(k) for k, v in content.items() if not isinstance(v, torch.Tensor)]
    if others:
        raise SourceError(
            f"{path}: not tensors: {listed(others[:8])}. Expected a dictionary of "
            f"tensors, or one under {listed(map(repr, _CONTAINERS))}."
        )
    return {str(name): _from_torch(path, name, v) for name, v in content.items()}


def _numpy_numbers() -> list[Any]:
    """What a pickle calls to rebuild a NumPy number; arrays are not among it."""
    scalar = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    kinds = {type(np.dtype(code)) for code in np.typecodes["AllInteger"] + "?efd"}
    return [*((scalar, name) for name in names), np.dtype, *kinds]


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
        held = tensor.untyped_storage().nbytes() // max(1, tensor.element_size())
        if tensor.numel() > max(held, _MOST_REPEATED):
            raise ValueError("more values than it holds")
        if str(tensor.dtype) == "torch.bfloat16":
            tensor = tensor.float()
        return tensor.detach().numpy()
    except Exception:  # sparse, quantised, complex halves, tensors without storage
        raise SourceError(
            f"{path}: tensor {name} ({tensor.dtype}, {tensor.layout}) cannot be read "
            f"as an array of {list(tensor.shape)!s:.80}. Expected a dense tensor of "
            "floating point values."
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


def listed(names: Iterable[str]) -> str:
    """Names as they stand in a message."""
    return ", ".join(names)
