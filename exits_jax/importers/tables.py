"""Delimited text, line by line, with the line in every message."""

import csv
from collections.abc import Iterator
from pathlib import Path

from exits_jax.data.records import fault


def read_rows(
    source: str | Path, delimiters: str = ","
) -> Iterator[tuple[int, list[str]]]:
    """Yields (number of its first line, cells) per row; blank lines are left out.

    Args:
        source: A UTF-8 text file, with or without byte order mark.
        delimiters: Characters to choose from; the one that occurs most in the first
            line that is not blank is taken.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It is not UTF-8 text (E101) or not a table (E102); the message
            names the line.
    """
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"Table {path} does not exist or is not a file.")
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in start:
        raise fault("E101", f"{path} looks like UTF-16 or UTF-32; save it as UTF-8.")
    line = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            first = next((text for text in file if text.strip()), "")
            delimiter = max(delimiters, key=first.count)
            file.seek(0)
            rows = csv.reader(file, delimiter=delimiter, strict=True)
            for row in rows:
                if row:
                    yield line + 1, row
                line = rows.line_num
        except UnicodeDecodeError as error:
            raise fault(
                "E101",
                f"{path} is not UTF-8 text: {error.reason} soon after line {line}.",
            ) from error
        except csv.Error as error:
            raise fault(
                "E102", f"{path}: line {line + 1} cannot be read: {error}."
            ) from error
