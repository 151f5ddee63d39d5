"""Reads checkpoint files as arrays. Nothing in a file is ever executed."""

import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_PYTORCH = (".pth", ".pt", ".bin")
_SUFFIXES = (".safetensors", *_PYTORCH)
_CONTAINERS = ("model", "state_dict")
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
    """Reads all tensors of a .safetensors, .pth, .pt or .bin file.

    Args:
      path: the checkpoint. PyTorch files are read with `weights_only=True`, so a
        pickle that asks for anything but tensors is refused before it runs.

    Returns:
      Tensor name -> array; bfloat16 becomes float32, other types stay.

    Raises:
      FileNotFoundError: there is no such file.
      SourceError: it is not a weights file, is cut short, or wants to run code.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    if not path.is_file():
        raise SourceError(f"{path}: not a file. Expected one of {_listed(_SUFFIXES)}.")
    if path.suffix not in _SUFFIXES:
        raise SourceError(
            f"{path}: the suffix {path.suffix!r} is not known. "
            f"Expected one of {_listed(_SUFFIXES)}."
        )
    _refuse_what_is_no_checkpoint(path)
    read = _read_pytorch if path.suffix in _PYTORCH else _read_safetensors
    tensors = read(path)
    if not tensors:
        raise SourceError(f"{path}: holds no tensors.")
    return tensors


def digest(path: Path) -> str:
    """Computes the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    import safetensors

    try:
        entries = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        reason = str(error).replace("Error while deserializing header: ", "")
        raise SourceError(
            f"{path}: cut short or not a safetensors file ({reason})."
        ) from None
    return {name: _to_array(path, name, entry) for name, entry in entries}


def _to_array(path: Path, name: str, entry: Mapping[str, Any]) -> np.ndarray:
    dtype, data = entry["dtype"], entry["data"]
    if dtype == "BF16":  # the upper half of a float32
        values = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    elif dtype in _DTYPES:
        values = np.frombuffer(data, _DTYPES[dtype])
    else:
        raise SourceError(
            f"{path}: tensor {name} has type {dtype}, which cannot be converted. "
            f"Expected one of BF16, {_listed(_DTYPES)}."
        )
    return values.reshape(entry["shape"])


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
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle can raise anything at all
        raise SourceError(_why_pytorch_refused(path, error)) from None

    if isinstance(content, Mapping):
        for key in _CONTAINERS:
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
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


def _listed(names: Any) -> str:
    return ", ".join(names)
