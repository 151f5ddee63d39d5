"""An append-only file of lines that are on the disk before anyone is told "saved"."""

import os
from pathlib import Path
from typing import Any

import msgspec

from exits_jax.data.records import AnnotationError, fault
from exits_jax.files.atomic import whole_path

_VERSION = 1
_APPENDING = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC


class Journal:
    """Lines of JSON, the first of which says whose they are.

    Attributes:
        path: The file.
        identity: A random word that the snapshots of this journal repeat.
        header: The first line.
        lines: Number of lines after it.
    """

    def __init__(self, path: Path, descriptor: int, header: dict[str, Any], lines: int):
        """Takes over an open file; `create` and `reopen` make one."""
        self.path, self.header, self.lines = path, header, lines
        self.identity: str = header["journal"]
        self._file = descriptor
        self._size = os.fstat(descriptor).st_size

    @classmethod
    def create(cls, path: Path, header: dict[str, Any]) -> "Journal":
        """A new file, readable by its owner alone, with its first line on the disk.

        Args:
            path: Where; there must be none.
            header: Further fields of the first line.
        """
        header = {
            "exits_jax_journal": _VERSION,
            "journal": os.urandom(8).hex(),
            **header,
        }
        with whole_path(path) as temporary:
            temporary.touch(mode=0o600)
            temporary.write_bytes(msgspec.json.encode(header) + b"\n")
        return cls(path, os.open(path, _APPENDING), header, 0)

    @classmethod
    def reopen(cls, path: Path) -> tuple["Journal", list[dict[str, Any]], int]:
        """An existing file; a last line that was never finished is cut off.

        Returns:
            The journal, its lines after the first, and the bytes that were cut off.

        Raises:
            AnnotationError: If another line is broken (E101); names it.
        """
        header, lines, end = read_journal(path)
        descriptor = os.open(path, _APPENDING)
        cut = os.fstat(descriptor).st_size - end
        if cut:
            os.ftruncate(descriptor, end)
            os.fsync(descriptor)
        return cls(path, descriptor, header, len(lines)), lines, cut

    def append(self, entries: list[Any]) -> None:
        """Adds lines in one write; when it returns, they are on the disk.

        Raises:
            OSError: If the disk did not take them all; then the file is as before.
        """
        data = b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
            os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)
        self.lines += len(entries)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


def read_journal(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]], int]:
    """The first line, the others, and the length of what is whole, bytes.

    Raises:
        AnnotationError: If a whole line is broken or the first is none of ours (E101).
    """
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(data[:end].split(b"\n")[:-1], start=1):
        lines.append(_parsed(text, f"{path}: line {number}"))
    if not lines or lines[0].get("exits_jax_journal") != _VERSION:
        raise fault("E101", f"{path} is no journal of this program; move it away.")
    return lines[0], lines[1:], end


def _parsed(text: bytes, name: str) -> dict[str, Any]:
    try:
        line = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _broken(name, error) from None
    if not isinstance(line, dict):
        raise _broken(name, "it is no object")
    return line


def _broken(name: str, why: object) -> AnnotationError:
    return fault(
        "E101",
        f"{name} is broken ({why}): it was changed after it was written. Mend or "
        "remove that line; what follows it is not lost.",
    )
