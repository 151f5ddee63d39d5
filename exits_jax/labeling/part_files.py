"""Parts of a labeled split: files that a restart keeps and a merge puts together.

A part holds the outcomes of consecutive objects, one per line, below a line that says
what decided them: the parameters, the fields of the configuration, the prepared
objects. Files of other parameters or fields are refused, so that no JSON mixes them.
"""

import hashlib
import json
import operator
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections as mlc
import numpy as np

import exits_jax
from exits_jax.data.records import Problem
from exits_jax.files.atomic import whole_file
from exits_jax.files.json_files import json_text
from exits_jax.labeling.pseudo_masks import Outcome, PseudoInstance
from exits_jax.run.workdir import ConfigError

FORMAT = 3
UNREADABLE = ("E110", "E111", "E113", "E114")  # codes of images that gave no crop
_CHANGED = "it was changed since it was written"
_MAX_HEADER = 2**16  # characters; a file without line breaks is not read whole


class Header(NamedTuple):
    """The first line of a part file."""

    made_by: dict[str, Any]  # what must be equal for the part to be kept
    num_unreadable: int  # objects whose image could not be read
    num_bytes: int  # of all further lines
    sha256: str  # of the same


class Parts(NamedTuple):
    """How the objects of a split are cut into files, and what decides their masks."""

    folder: Path
    split: str
    num_objects: int
    size: int  # objects of a part; the last may have fewer
    decided_by: dict[str, Any]  # fields and digests by name

    @property
    def num_parts(self) -> int:
        """Number of parts."""
        return -(-self.num_objects // self.size)

    def rows(self, part: int) -> range:
        """The objects of a part, by their place among those of the split."""
        start = part * self.size
        return range(start, min(start + self.size, self.num_objects))

    def path(self, part: int) -> Path:
        """The file of a part."""
        return self.folder / f"{self.split}-{part:05d}-of-{self.num_parts:05d}.jsonl"

    def of_process(self, process: int, num_processes: int) -> range:
        """The parts that one of several processes makes."""
        return range(process, self.num_parts, num_processes)


def part_size(config: mlc.ConfigDict) -> int:
    """`generate.part_size`, rounded up to whole batches.

    A batch then has the same objects whatever the parts and who makes them.
    """
    batch = config.generate.batch_size
    return -(-config.generate.part_size // batch) * batch


def find_kept(parts: Parts, own: Collection[int] | None = None) -> set[int]:
    """The parts that an earlier run finished and that this one need not make again.

    Parts with objects whose images could not be read are made again: the images may
    be back.

    Args:
        parts: Which there may be.
        own: Those that are read to their ends, so that a damaged one is told before
            others are made; None: all. Of the rest the lengths are looked at.

    Raises:
        ConfigError: If a file was made with other settings or is broken; says what
            differs.
    """
    kept = set()
    expected = {parts.path(part): part for part in range(parts.num_parts)}
    for path in sorted(parts.folder.glob(f"{parts.split}-*.jsonl")):
        if path not in expected:
            _refuse_unexpected(parts, path)
        part = expected[path]
        header = _checked_header(parts, part)
        if own is None or part in own:
            _refuse_changed(path, header)
        if not header.num_unreadable:
            kept.add(part)
    return kept


def remove_drafts(parts: Parts, process: int, num_processes: int) -> None:
    """Removes what killed runs left half written of the parts of one process."""
    for path in parts.folder.glob(f".{parts.split}-*.jsonl.*"):
        number = re.match(r"-(\d+)-of-", path.name.removeprefix(f".{parts.split}"))
        if number and int(number[1]) % num_processes == process:
            path.unlink(missing_ok=True)


def write_part(
    parts: Parts, part: int, outcomes: Iterable[tuple[int, Outcome]]
) -> None:
    """Writes the file of a part, whole or not at all; holds its lines until then."""
    lines, num_unreadable = [], 0
    for position, outcome in outcomes:
        kind, fields = type(outcome).__name__, outcome._asdict()
        lines.append(json_text([position, kind, fields]) + "\n")
        num_unreadable += isinstance(outcome, Problem) and outcome.code in UNREADABLE
    if len(lines) != len(parts.rows(part)):
        raise RuntimeError(
            f"Part {part} of {parts.split} has {len(parts.rows(part))} objects, but "
            f"{len(lines)} outcomes were made."
        )
    text = "".join(lines)  # in ASCII
    digest = hashlib.sha256(text.encode()).hexdigest()
    header = Header(_made_by(parts, part), num_unreadable, len(text), digest)
    with whole_file(parts.path(part)) as file:
        file.write(json_text(header._asdict()) + "\n")
        file.write(text)


def count_unreadable(parts: Parts) -> int:
    """Objects of all parts whose images could not be read.

    Raises:
        ConfigError: If a part is missing, was made with other settings or is broken.
    """
    headers = (_checked_header(parts, part) for part in range(parts.num_parts))
    return sum(header.num_unreadable for header in headers)


def read_parts(
    parts: Parts, positions: np.ndarray, *, unreadable_only: bool = False
) -> Iterator[tuple[int, Outcome]]:
    """The outcomes of all parts in order, one line in memory at a time.

    That a part is not what was written is known when its last line is read.

    Args:
        parts: Whose files are all there.
        positions: Place of each object of the split among the annotations.
        unreadable_only: Only outcomes of images that could not be read; parts without
            them are not opened further.

    Raises:
        ConfigError: If a part is missing, was made with other settings, is broken or
            does not hold its objects.
    """
    for part in range(parts.num_parts):
        header = _checked_header(parts, part)
        if unreadable_only and not header.num_unreadable:
            continue
        rows = parts.rows(part)
        wanted = positions[rows.start : rows.stop]
        for position, outcome in _read_lines(parts.path(part), wanted, header.sha256):
            is_lost = isinstance(outcome, Problem) and outcome.code in UNREADABLE
            if is_lost or not unreadable_only:
                yield position, outcome


def remove_parts(parts: Parts) -> None:
    """Removes the files of all parts, which a JSON holds now, and an empty folder."""
    for part in range(parts.num_parts):
        parts.path(part).unlink(missing_ok=True)
    if parts.folder.is_dir() and not any(parts.folder.iterdir()):
        parts.folder.rmdir()


def _made_by(parts: Parts, part: int) -> dict[str, Any]:
    """What must be equal for a part to be kept."""
    rows = parts.rows(part)
    made_by = {
        "format": FORMAT,
        "version": exits_jax.__version__,
        "split": parts.split,
        "part": part,
        "parts": parts.num_parts,
        "objects": [rows.start, rows.stop],
        **parts.decided_by,
    }
    return json.loads(json_text(made_by))  # as it will be read: no tuples


def _checked_header(parts: Parts, part: int) -> Header:
    """The header of a part that this run may keep.

    Raises:
        ConfigError: If it is missing, was made with other settings or is broken.
    """
    path = parts.path(part)
    try:
        header, offset = _read_header(path)
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing, so no mask was written. Run the same command again "
            "to make it; all processes must see the same workdir."
        ) from None
    except ConfigError:  # of another version
        raise
    except ValueError as error:
        raise _broken(path, f"its first line is not a header: {error}") from error
    found, wanted = header.made_by, _made_by(parts, part)
    names = sorted(found.keys() | wanted.keys())
    differ = [name for name in names if found.get(name) != wanted.get(name)]
    if differ:
        lines = "\n  ".join(
            f"{name}: was {_short(found.get(name))}, is {_short(wanted.get(name))}"
            for name in differ
        )
        raise ConfigError(
            f"{path} holds masks that were made with other settings:\n  {lines}\n"
            f"Run with what they were made with to go on, or remove {parts.folder} to "
            "make all masks again."
        )
    num_bytes = path.stat().st_size - offset
    if num_bytes != header.num_bytes:
        raise _broken(path, f"it holds {num_bytes} of {header.num_bytes} bytes")
    return header


def _refuse_changed(path: Path, header: Header) -> None:
    """Raises ConfigError if the lines below a header are not those it was made for."""
    with path.open("rb") as file:
        next(file)  # the header
        if hashlib.file_digest(file, "sha256").hexdigest() != header.sha256:
            raise _broken(path, _CHANGED)


def _read_header(path: Path) -> tuple[Header, int]:
    """The header and the bytes of its line; ValueError if it is none.

    Raises:
        ConfigError: If it has another format than those of this version.
    """
    with path.open("rb") as file:
        line = file.readline(_MAX_HEADER)
    try:
        fields = json.loads(line)
        _refuse_other_format(path, fields)
        header = Header(**fields)
    except TypeError as error:
        raise ValueError(str(error)) from error
    kinds = (dict, int, int, str)
    if not all(type(value) is kind for value, kind in zip(header, kinds)):
        raise ValueError("its fields have other types.")
    return header, len(line)


def _refuse_other_format(path: Path, fields: Any) -> None:
    """Raises ConfigError for a header that another version wrote."""
    made_by = fields.get("made_by") if isinstance(fields, dict) else None
    found = made_by.get("format") if isinstance(made_by, dict) else None
    if type(found) is not int or found == FORMAT:
        return
    which = "an earlier" if found < FORMAT else "a later"
    raise ConfigError(
        f"{path} was made by {which} version of exits_jax, whose parts this one does "
        f"not go on from. Remove {path.parent} to make all masks again."
    )


def _refuse_unexpected(parts: Parts, path: Path) -> None:
    """Raises for a file with a name that no part of this run has."""
    try:
        found = _read_header(path)[0].made_by
        was = f"one of {found['parts']} parts that were divided differently"
    except ConfigError:
        raise
    except (ValueError, KeyError):
        was = "no part file of this version"
    raise ConfigError(
        f"{path} is {was}; this run cuts the {parts.num_objects} objects of "
        f"{parts.split} into {parts.num_parts} parts of {parts.size}. Run with the "
        "generate.part_size, generate.batch_size and annotations that it was made with "
        f"to go on, or remove {parts.folder} to make all masks again."
    )


def _read_lines(
    path: Path, positions: np.ndarray, sha256: str
) -> Iterator[tuple[int, Outcome]]:
    """The outcomes of a part, which must be those of the given places."""
    digest = hashlib.sha256()
    kinds = {"PseudoInstance": PseudoInstance, "Problem": Problem}
    with path.open("rb") as file:
        next(file)  # the header
        count = 0
        for line in file:
            digest.update(line)
            try:
                position, kind, fields = json.loads(line)
                outcome = kinds[kind](**fields)
            except (ValueError, KeyError, TypeError) as error:
                why = f"line {count + 2} is no outcome: {error!r:.200}"
                raise _broken(path, why) from error
            if count >= len(positions) or position != operator.index(positions[count]):
                why = f"line {count + 2} is the outcome of another object"
                raise _broken(path, why)
            count += 1
            yield position, outcome
    if count < len(positions):
        raise _broken(path, f"it holds {count} of {len(positions)} objects")
    if digest.hexdigest() != sha256:
        raise _broken(path, _CHANGED)


def _broken(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path} is broken: {why}. Remove it to have it made again.")


def _short(value: Any) -> str:
    """A value for a message; of digests, the beginning."""
    text = "unknown" if value is None else repr(value)
    return text if len(text) <= 40 else f"{text[:20]}...'"
