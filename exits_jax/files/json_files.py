"""JSON as files that appear whole or not at all, also when written piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from exits_jax.files.atomic import whole_file


def write_json(path: str | Path, obj: Any, *, indent: int | None = None) -> None:
    """Writes an object as JSON in one atomic step.

    Args:
        path: The file; its folder is created when missing.
        obj: What to write; NumPy numbers and arrays are turned into plain ones.
        indent: Spaces per level, for what people read; None writes one line.

    Raises:
        ValueError: If a number is not finite.
    """
    try:
        text = json_text(obj, indent=indent)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; numbers in JSON must be finite.") from error
    with whole_file(path) as file:
        file.write(text + "\n")


def write_json_lists(
    path: str | Path, fields: Mapping[str, Any], lists: Mapping[str, Iterable[str]]
) -> None:
    """Writes one JSON object with long lists in it, one entry per line.

    Args:
        path: The file; it appears when the last entry is written.
        fields: The short fields, which come first.
        lists: The entries of each long field, as JSON texts; taken one by one.

    Raises:
        ValueError: If a number in `fields` is not finite.
    """
    try:
        head = [f"{json.dumps(name)}: {json_text(v)}" for name, v in fields.items()]
    except ValueError as error:
        raise ValueError(f"{path}: {error}; numbers in JSON must be finite.") from error
    with whole_file(path) as file:
        opening = "{"
        for text in head:
            file.write(opening + text)
            opening = ",\n"
        for name, entries in lists.items():
            file.write(f"{opening}{json.dumps(name)}: [")
            separator = "\n"
            for entry in entries:
                file.write(separator)
                file.write(entry)
                separator = ",\n"
            file.write("]")
            opening = ",\n"
        file.write("}\n" if fields or lists else "{}\n")


def json_text(obj: Any, *, indent: int | None = None) -> str:
    """An object as JSON text in ASCII; NumPy numbers and arrays become plain ones.

    On one line, or with so many spaces per level.

    Raises:
        ValueError: If a number is not finite.
    """
    return json.dumps(
        obj, allow_nan=False, default=_plain, ensure_ascii=True, indent=indent
    )


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} {value!r:.80} cannot be written as JSON.")
