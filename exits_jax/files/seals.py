"""Seals: what a file held when it was written, so that a later reader can tell.

A bit that flips in a file of numbers gives other numbers and no error. Whoever writes
what is read later notes its length and SHA-256; whoever reads it looks.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from exits_jax.files.digests import sha256_of
from exits_jax.files.json_files import json_text, write_json

Seals = dict[str, dict[str, Any]]  # "bytes" and "sha256" by name below a folder
_SEAL = "seal"
_Json = TypeVar("_Json", dict, list)


class Damaged(ValueError):
    """A file that does not hold what was written; the message names it."""


def seal_of(path: Path) -> dict[str, Any]:
    """Length and SHA-256 of a file."""
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def seals_of(folder: Path, paths: Iterable[Path]) -> Seals:
    """Seals of files, by their names below a folder."""
    return {
        path.relative_to(folder).as_posix(): seal_of(path) for path in sorted(paths)
    }


def fault_of_file(path: Path, seal: Any) -> str | None:
    """What is wrong with a file, in words; None if it is what was sealed."""
    try:
        wanted = {name: seal[name] for name in ("bytes", "sha256")}
    except (TypeError, KeyError):
        return "its seal is none"
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != wanted["bytes"]:
        return f"has {size} bytes, but {wanted['bytes']} were written"
    if sha256_of(path) != wanted["sha256"]:
        return "was changed since it was written: its SHA-256 is another"
    return None


def write_sealed(path: str | Path, record: Mapping[str, Any]) -> None:
    """Writes a JSON object with its own digest as a last field, in one atomic step."""
    plain = json.loads(json_text(dict(record)))
    write_json(path, {**plain, _SEAL: _digest(plain)})


def read_sealed(path: Path) -> dict[str, Any]:
    """A JSON object that `write_sealed` wrote, without its seal.

    One without a seal, of an earlier version or changed by hand, is taken as it is.

    Raises:
        FileNotFoundError: If there is no such file.
        Damaged: If it is no JSON object, or not the one that was written.
    """
    record = read_json(path, dict)
    seal = record.pop(_SEAL, None)
    if seal is not None and seal != _digest(record):
        raise Damaged(
            f"{path} was changed since it was written. If that was meant, remove its "
            f'field "{_SEAL}".'
        )
    return record


def read_json(path: Path, kind: type[_Json]) -> _Json:
    """A JSON file of the workdir.

    Args:
        path: The file.
        kind: What it holds: `dict` or `list`.

    Raises:
        FileNotFoundError: If there is no such file.
        Damaged: If it holds something else.
    """
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path} is damaged: it is no JSON ({error}).") from None
    if not isinstance(found, kind):
        named = {dict: "object", list: "list"}[kind]
        raise Damaged(f"{path} is damaged: it holds no JSON {named}.")
    return found


def _digest(record: dict[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
