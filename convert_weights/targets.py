"""Writes converted parameters as a safetensors file, whole or not at all."""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from exits_jax.files.atomic import whole_path
from exits_jax.files.leftovers import remove_leftovers


def check_target(path: Path, source: Path, *, target: str = "exits_jax") -> None:
    """Refuses an output path that could not be written, before any work is done.

    Args:
        path: Where the output goes.
        source: What is read.
        target: One of `exports.TARGETS`; hf is written as a new folder.

    Raises:
        ValueError: The path is a folder, lies below a file, is the source itself, has
            another suffix than .safetensors (.onnx), or its folder may not be written
            to.
    """
    suffix = suffix_of(target)
    if target == "hf":
        if path.exists():
            raise ValueError(
                f"--out={path}: exists, expected the name of a new folder."
            )
    elif path.suffix != suffix:
        raise ValueError(f"--out={path}: expected a name that ends in {suffix}.")
    if path.is_dir():
        raise ValueError(f"--out={path}: is a folder, expected a file name.")
    if path.exists() and source.exists() and path.samefile(source):
        raise ValueError(f"--out={path}: is the source itself, expected another file.")
    folder = next(p for p in path.absolute().parents if p.exists())
    if not folder.is_dir():
        raise ValueError(f"--out={path}: {folder} is a file, expected a folder.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"--out={path}: no permission to write into {folder}.")


def suffix_of(target: str) -> str:
    """Of the name of an output; a folder (hf) may have any."""
    return {"hf": "", "onnx": ".onnx"}.get(target, ".safetensors")


def write_safetensors(
    path: Path, params: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    """Writes a safetensors file of float32 arrays.

    The bytes depend on the arguments alone, so the same source gives the same digest.
    (The library's own writer shuffles the metadata.) The file appears under its name
    only when it is complete.

    Raises:
        OSError: The disk is full or the folder cannot be written to.
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    for name, value in params.items():
        size = value.size * 4
        header[name] = {
            "dtype": "F32",
            "shape": list(value.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format wants the data aligned to 8 bytes

    remove_leftovers(path.parent)
    with whole_path(path) as draft, draft.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for value in params.values():
            file.write(np.ascontiguousarray(value, "<f4").tobytes())


def write_folder(
    path: Path,
    tensors: dict[str, np.ndarray],
    metadata: dict[str, str],
    documents: Mapping[str, object],
) -> None:
    """Writes a folder of `model.safetensors` and JSON files, whole or not at all.

    Raises:
        OSError: The disk is full or the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    names = rf"\.{re.escape(path.name)}\.(\d+)\.tmp"
    remove_leftovers(path.parent, names, folders=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_safetensors(temporary / "model.safetensors", tensors, metadata)
        for name, content in documents.items():
            (temporary / name).write_text(json.dumps(content, indent=2) + "\n")
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
