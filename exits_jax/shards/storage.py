"""Files that are whole or absent, on a disk or in a bucket.

A folder is an `epath.Path`: a local one, or one of an object store such as gs://. A
local file appears by renaming a finished one; an object appears when its upload ends.
"""

import hashlib
import json
import os
import re
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

from etils import epath

from exits_jax.data.images import ImageError

_END = 2**16
_UNSAFE = re.compile(r"[\\\0:]|(^|/)\.\.?(/|$)|^/|//|/$|^$")


class ShardError(ImageError):
    """Files of a packed data set that cannot be used; the message names the file."""


def is_safe(name: object) -> bool:
    """Whether a name from a file can only lead to a place below its folder."""
    return isinstance(name, str) and not _UNSAFE.search(name)


def is_remote(path: epath.Path) -> bool:
    """Whether a path is one of an object store, as gs://bucket/folder."""
    return "://" in os.fspath(path)


def to_json(value: Any) -> bytes:
    """JSON text that is the same for equal values."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=True, sort_keys=True)
    return f"{text}\n".encode()


def write_bytes(path: epath.Path, data: bytes) -> None:
    """Writes a file in one step; its folder is created when missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_remote(path):
        path.write_bytes(data)
        return
    temporary = beside(path)
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def move_in(file: Path, path: epath.Path) -> None:
    """Gives a finished local file its place; the file itself may be gone then.

    Local places have to be on the file system of the file.
    """
    if is_remote(path):
        with file.open("rb") as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, 2**24)
    else:
        os.replace(file, path)


def copy_checked(source: epath.Path, target: Path, *, sha256: str, size: int) -> None:
    """Copies a file to a local place, where it appears only if it is the right one.

    Raises:
        ShardError: If the bytes that arrived are not those of the manifest.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(target)
    digest, count = hashlib.sha256(), 0
    try:
        with source.open("rb") as reader, temporary.open("wb") as writer:
            while chunk := reader.read(2**22):
                digest.update(chunk)
                count += len(chunk)
                writer.write(chunk)
        found = digest.hexdigest()
        if (count, found) != (size, sha256):
            raise ShardError(
                f"{os.fspath(source)} has {count} bytes with sha256 {found}; its "
                f"manifest says {size} bytes with sha256 {sha256}. It is damaged, or "
                "the manifest is another data set's."
            )
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: epath.Path | Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**22):
            digest.update(chunk)
    return digest.hexdigest()


def ends_sha256_of(path: Path) -> str:
    """The sha256 of a local file's first and last 64 KiB, in hexadecimal digits."""
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(_END))
        file.seek(max(0, path.stat().st_size - _END))
        digest.update(file.read(_END))
    return digest.hexdigest()


def size_of(path: epath.Path) -> int:
    """Bytes of a file.

    Raises:
        ShardError: If there is no such file.
    """
    try:
        return int(path.stat().length)
    except FileNotFoundError:
        raise ShardError(
            f"{os.fspath(path)} is missing, though the manifest beside it lists it."
        ) from None


def beside(path: os.PathLike[str]) -> Path:
    """A name in the folder of a local file that no other writer uses."""
    place = Path(path)
    owner = f"{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}"
    return place.with_name(f".{place.name}.{owner}.tmp")
