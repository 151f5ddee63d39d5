"""Files that appear whole or not at all, also after a crash of the machine."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

DRAFT = ".exits-tmp"  # end of the names of what is being written; nobody else has it


@contextlib.contextmanager
def whole_path(path: str | Path) -> Iterator[Path]:
    """A name to write a file under, which becomes `path` only when the block ends well.

    What was written is on the disk before it takes its place. A temporary file that a
    killed process left behind begins with a dot and is of no harm.

    Args:
        path: The file; its folder is created when missing, an older file is replaced.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is no regular file and is not replaced", str(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}{DRAFT}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[IO[str]]:
    """A text file to write into, in UTF-8; see `whole_path`."""
    with whole_path(path) as temporary:
        with temporary.open("w", encoding="utf-8") as file:
            yield file


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes a file in one atomic step; see `whole_path`."""
    with whole_path(path) as temporary:
        temporary.write_bytes(data)


def _sync_folder(folder: Path) -> None:
    """The new name is on the disk, too, where folders can be flushed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # not on Windows
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse
        pass
    finally:
        os.close(descriptor)
