"""Reads checkpoint files as arrays. Nothing in a file is ever executed."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from exits_jax.files.words import printable

from .formats import (
    SourceError,
    listed,
    read_header,
    read_npz,
    read_pytorch,
    read_safetensors,
)

__all__ = [
    "SourceError",
    "digest",
    "files_of",
    "read_json",
    "read_metadata",
    "read_source",
]

_PYTORCH = (".pth", ".pt", ".bin", ".ckpt")
_SUFFIXES = (".safetensors", *_PYTORCH, ".npz")
_WRAPPERS = (  # prefix of all names, and prefixes with which it is a kind of its own
    ("module.", ()),
    ("teacher.", ("teacher.backbone.", "teacher.module.backbone.")),
    ("module.", ()),
    ("backbone.", ()),
)
_FOLDER_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def read_source(path: Path) -> dict[str, np.ndarray]:
    """Reads all tensors of a checkpoint file or a Hugging Face folder.

    Args:
        path: The checkpoint. PyTorch files are read with `weights_only=True`, so a
            pickle that asks for anything but tensors is refused before it runs; `.npz`
            files without pickles.

    Returns:
        Tensor name -> array; bfloat16 becomes float32, other types stay.

    Raises:
        FileNotFoundError: There is no such file.
        SourceError: It is not a weights file, is cut short, or wants to run code.
    """
    tensors: dict[str, np.ndarray] = {}
    for file in files_of(path):
        if file.suffix not in _SUFFIXES:
            raise SourceError(
                f"{file}: the suffix {file.suffix!r} is not known. "
                f"Expected one of {listed(_SUFFIXES)}."
            )
        _refuse_what_is_no_checkpoint(file)
        tensors |= _reader(file)(file)
    if not tensors:
        raise SourceError(f"{path}: holds no tensors.")
    odd = [name for name in tensors if not name.isprintable()]
    if odd:
        raise SourceError(
            f"{path}: the name {odd[0]!a:.80} of a tensor holds control characters."
        )
    return without_wrappers(tensors)


def without_wrappers(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors under the names that they have in the model itself.

    Compiled models put `_orig_mod.` before names, parallel ones `module.`, and training
    scripts the part that an encoder is of them. A prefix of a part is only left out
    where every name has it.
    """
    tensors = {name.replace("_orig_mod.", ""): v for name, v in tensors.items()}
    for prefix, inner in _WRAPPERS:
        is_common = all(name.startswith(prefix) for name in tensors)
        if is_common and not any(name.startswith(inner) for name in tensors):
            tensors = {name.removeprefix(prefix): v for name, v in tensors.items()}
    return tensors


def files_of(path: Path) -> list[Path]:
    """The files of weights that a source consists of: one, or the shards of a folder.

    Raises:
        FileNotFoundError: There is no such file.
        SourceError: It is a folder that holds none.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    if path.is_file():
        return [path]
    found = next((name for name in _FOLDER_FILES if (path / name).is_file()), None)
    if found is None:
        raise SourceError(
            f"{path}: not a file, nor a folder with {listed(_FOLDER_FILES)}. "
            f"Expected one of {listed(_SUFFIXES)}."
        )
    if not found.endswith(".json"):
        return [path / found]
    index = read_json(path / found).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise SourceError(f"{path / found}: no 'weight_map'.")
    named = list(index.values())
    if not all(isinstance(name, str) and name.isprintable() for name in named):
        raise SourceError(
            f"{path / found}: its 'weight_map' names something else than files."
        )
    shards = [path / Path(name).name for name in sorted(set(named))]
    for shard in shards:
        if not shard.is_file():
            raise FileNotFoundError(f"{shard}: no such file, but {found} names it.")
    return shards


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says about itself; empty for other files."""
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    said = read_header(path).get("__metadata__")
    if not isinstance(said, dict):
        return {}
    return {printable(key): printable(value) for key, value in said.items()}


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        SourceError: The file is something else.
    """
    try:
        content = json.loads(path.read_text())
    except (RecursionError, ValueError) as error:
        raise SourceError(f"{path}: not JSON ({error!s:.200}).") from None
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
        return read_npz
    return read_pytorch if path.suffix in _PYTORCH else read_safetensors


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
