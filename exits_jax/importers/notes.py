"""What an import has to say of its records, kept on disk until the report is made."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from exits_jax.importers.items import Rejected


class Notes:
    """Rejected records and remarks; in memory are only counts and first messages."""

    def __init__(self, folder: Path):
        # Nameless files: they are gone with the process, however that ends.
        self._rejected = tempfile.TemporaryFile("w+", dir=folder, encoding="ascii")
        self._remarks = tempfile.TemporaryFile("w+", dir=folder, encoding="ascii")
        self.rejected: dict[str, tuple[int, str]] = {}
        self.remarks: dict[str, tuple[int, str]] = {}

    def __enter__(self) -> "Notes":
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes, and so removes, the files."""
        self._rejected.close()
        self._remarks.close()

    @property
    def num_rejected(self) -> int:
        """How many records were rejected."""
        return sum(count for count, _ in self.rejected.values())

    def reject(self, item: Rejected) -> None:
        """Notes a record that does not become an object."""
        _add(self._rejected, self.rejected, item)

    def remark(self, record: str, code: str, message: str) -> None:
        """Notes something about a record that does, or about an image."""
        _add(self._remarks, self.remarks, Rejected(record, code, message))

    def write_report(self, file: IO[str], head: Mapping[str, Any]) -> None:
        """Writes the report: `head`, counts per code, then every note.

        Args:
            file: Where to.
            head: Its first fields.
        """
        tallies = {
            name: {code: count for code, (count, _) in notes.items()}
            for name, notes in (("codes", self.rejected), ("remarked", self.remarks))
        }
        text = json.dumps({**head, **tallies}, allow_nan=False)
        file.write(text.removesuffix("}"))
        for name, notes in (("rejected", self._rejected), ("remarks", self._remarks)):
            notes.flush()
            notes.seek(0)
            file.write(f',\n"{name}": [')
            shutil.copyfileobj(notes, file, 1 << 20)
            file.write("\n]")
        file.write("}\n")


def _add(file: IO[str], tally: dict[str, tuple[int, str]], note: Rejected) -> None:
    file.write(",\n" if tally else "\n")
    file.write(json.dumps(note._asdict()))
    count, first = tally.get(note.code, (0, note.message))
    tally[note.code] = count + 1, first
