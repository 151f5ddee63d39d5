"""An instances JSON whose records are parsed one by one, when they are asked for.

A million annotations as parsed objects take many gigabytes. Here the file stays as it
is in memory, and only the place of each record is kept.
"""

import codecs
import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from exits_jax.data.records import AnnotationError, fault, is_id, whole_number

MAX_BYTES = 8 * 2**30  # more does not fit beside anything else
_MAX_LENIENT_BYTES = 2**28  # parsed as a whole, a file takes ten times its size
_CHUNK = 2**24
_MAX_LISTED = 20
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})", re.ASCII)
LISTS = ("images", "annotations", "categories")

Mend = Callable[[dict[str, Any]], bool]


class Records(Sequence[Any]):
    """The entries of a list in a JSON file, each parsed anew when it is asked for."""

    def __init__(self, entries: Sequence[Any], mend: Mend | None = None):
        """Takes over `msgspec.Raw` entries, or entries that are parsed already.

        Args:
            entries: The entries.
            mend: Puts right what is written otherwise than it is meant, in an object as
                it was parsed; says whether that is worth a remark.
        """
        self._entries, self._mend = entries, mend
        self.mended: set[int] = set()  # places of remarkable entries seen so far

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._entries)

    def __getitem__(self, position) -> Any:
        """The entry at a position, or a list of them for a slice.

        Raises:
            AnnotationError: It is JSON that no parser takes (E101), such as 1e400.
        """
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        entry = _parse(self._entries[position])
        if self._mend is not None and type(entry) is dict and self._mend(entry):
            self.mended.add(position)
        return entry

    def __iter__(self) -> Iterator[Any]:
        """The entries in file order; None for one that no parser takes."""
        for position in range(len(self)):
            try:
                yield self[position]
            except AnnotationError:
                yield None

    def replace(self, changes: Mapping[int, Any]) -> None:
        """Puts other entries in the places of some, as texts like them."""
        entries = list(self._entries)
        for position, entry in changes.items():
            is_raw = isinstance(entries[position], msgspec.Raw)
            entries[position] = (
                msgspec.Raw(json.dumps(entry).encode()) if is_raw else entry
            )
        self._entries = entries

    @property
    def is_strict(self) -> bool:
        """Whether the text was strict JSON, which has no NaN and no infinity."""
        return not self._entries or isinstance(self._entries[0], msgspec.Raw)


class ById(Mapping[int | str, Any]):
    """One field of the records by their id, parsed when it is asked for.

    Of records that share an id the first counts, as for the reader. Records without
    the field, or with an empty one, are left out.
    """

    def __init__(self, records: Records, field: str):
        """Notes where each record stands."""
        self._records, self._field = records, field
        self._places: dict[int | str, int] = {}
        first: set[int | str] = set()
        for place, record in enumerate(records):
            if not isinstance(record, dict) or not is_id(record.get("id")):
                continue
            if record["id"] not in first and record.get(field):
                self._places[record["id"]] = place
            first.add(record["id"])

    def __getitem__(self, identity: int | str) -> Any:
        """The field of a record; KeyError without one."""
        return self._records[self._places[identity]][self._field]

    def __iter__(self) -> Iterator[int | str]:
        """The ids."""
        return iter(self._places)

    def __len__(self) -> int:
        """Number of ids."""
        return len(self._places)


class CocoFile:
    """A COCO instances file of sound structure; its records are not checked yet."""

    def __init__(self, name: str, parts: dict[str, Any]):
        """Takes over the top level of the JSON; `CocoFile.read` makes it from a file.

        Args:
            name: What to call it in messages, usually its path.
            parts: Its fields; lists may hold entries that are not parsed yet.

        Raises:
            AnnotationError: A list is missing, an entry has no id or a category id
                occurs twice (E102), a number outside the annotations is not finite
                (E104), an image id occurs twice (E106).
        """
        _check_lists(parts, name)
        self.name = name
        self.images = Records(parts["images"], _mend_image)
        self.categories: list[dict[str, Any]] = list(
            Records(parts["categories"], _mend_category)
        )
        self.rest = {
            key: _parse(value) for key, value in parts.items() if key not in LISTS
        }
        if not self.images.is_strict:
            for key, value in parts.items():
                if key != "annotations":
                    refuse_nan(value, f"{name}: `{key}`")
        self.image_ids = _ids(self.images, "images", name)
        category_ids = _ids(self.categories, "categories", name)
        _refuse_repeats(self.image_ids, "image", "E106", name)
        _refuse_repeats(category_ids, "category", "E102", name)
        self.image_rows = {identity: k for k, identity in enumerate(self.image_ids)}
        self.annotations = Records(
            parts["annotations"], _mender(self.image_rows, set(category_ids))
        )

    @classmethod
    def read(cls, path: str | Path) -> "CocoFile":
        """Reads an instances file and checks its structure, not its records.

        Args:
            path: A UTF-8 JSON file, with or without byte order mark.

        Raises:
            FileNotFoundError: There is no such file.
            AnnotationError: It is not JSON (E101), not an instances file (E102), names
                an image twice (E106) or is too large (E115).
        """
        return cls(str(path), _read_top_level(Path(path)))


def read_text(path: Path) -> bytes:
    """The bytes of a UTF-8 file without its byte order mark.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It is not UTF-8 (E101) or too large (E115).
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise fault(
                "E115",
                f"{path} has {size / 2**30:.1f} GiB; at most {MAX_BYTES / 2**30:.0f} "
                "GiB are read. Split it.",
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"Annotation file {path} does not exist.") from None
    except IsADirectoryError:
        raise fault("E101", f"{path} is a folder; expected a JSON file.") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data[:4]:
        raise fault("E101", f"{path} looks like UTF-16 or UTF-32; save it as UTF-8.")
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data) + 1, _CHUNK):
        chunk = data[start : start + _CHUNK]
        try:
            decoder.decode(chunk, final=start + _CHUNK > len(data))
        except UnicodeDecodeError as error:
            # Bytes that the decoder kept from the chunk before count as well.
            byte = start + error.start - (len(error.object) - len(chunk))
            raise fault(
                "E101", f"{path} is not UTF-8 text: byte {byte} is wrong."
            ) from error
    return data.removeprefix(codecs.BOM_UTF8)


def refuse_nan(value: Any, name: str) -> None:
    """Raises E104 if there is a NaN or an infinity anywhere in a parsed JSON value."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise fault(
            "E104", f"{name} holds NaN or an infinity; expected finite numbers."
        ) from error


def parse_json(data: bytes, path: str | Path) -> Any:
    """Parses a whole JSON text; NaN and infinities pass here and are checked later.

    Raises:
        AnnotationError: It is not JSON (E101); the message has the byte.
    """
    text = data.decode()
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        mark = path_mark(path)
        byte = mark + len(text[: error.pos].encode())
        raise fault(
            "E101",
            f"{path} is not JSON: {error.msg} at byte {byte} of {mark + len(data)} "
            f"(line {error.lineno}, column {error.colno}). Is the file complete?",
        ) from error
    except (RecursionError, ValueError) as error:  # nesting; integers of any length
        raise fault("E101", f"{path} cannot be parsed as JSON: {error}.") from error


def path_mark(path: str | Path) -> int:
    """Length of the byte order mark of a file."""
    with Path(path).open("rb") as file:
        return len(codecs.BOM_UTF8) if file.read(3) == codecs.BOM_UTF8 else 0


def _read_top_level(path: Path) -> dict[str, Any]:
    """The fields of the JSON; those of `LISTS` as lists of unparsed entries."""
    data = read_text(path)
    try:
        parts: dict[str, Any] = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        for key in LISTS:
            raw = parts.get(key)
            if raw is not None and bytes(memoryview(raw)[:1]) == b"[":
                parts[key] = msgspec.json.decode(raw, type=list[msgspec.Raw])
            elif raw is not None:
                parts[key] = _parse(raw)
        return parts
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        # Not strict JSON or not an object: the lenient parser knows NaN and says more.
        if len(data) > _MAX_LENIENT_BYTES:
            raise fault("E101", f"{path} is not strict JSON: {error}.") from error
    source = parse_json(data, path)
    _check_top(source, str(path))
    return source


def _parse(entry: Any) -> Any:
    if not isinstance(entry, msgspec.Raw):
        return entry
    try:
        return msgspec.json.decode(entry)
    except (msgspec.DecodeError, RecursionError):
        pass  # lone surrogates and numbers of any length are JSON too
    try:
        return json.loads(bytes(memoryview(entry)), parse_float=_finite)
    except (RecursionError, ValueError) as error:
        start = bytes(memoryview(entry)[:60])
        raise fault("E101", f"{start!r}... cannot be parsed: {error}.") from error


def _mend_image(image: dict[str, Any]) -> bool:
    """640.0 is 640, as ids and sizes."""
    for key in ("id", "width", "height"):
        if type(image.get(key)) is float:
            image[key] = whole_number(image[key])
    return False


def _mend_category(category: dict[str, Any]) -> bool:
    if type(category.get("id")) is float:
        category["id"] = whole_number(category["id"])
    return False


def _mender(images: Collection[int | str], categories: Collection[int | str]) -> Mend:
    """Reads ids of annotations as the ids that they stand for.

    1.0 is 1. A text is the number that it shows where no id of that kind is text.
    """
    known = {
        "image_id": (images, not any(type(one) is str for one in images)),
        "category_id": (categories, not any(type(one) is str for one in categories)),
    }

    def mend(record: dict[str, Any]) -> bool:
        if type(record.get("id")) is float:
            record["id"] = whole_number(record["id"])
        is_remarkable = False
        for key, (ids, are_numbers) in known.items():
            value = record.get(key)
            if type(value) is int:
                continue
            if type(value) is float:
                record[key] = whole_number(value)
            elif type(value) is str and are_numbers and _WHOLE.fullmatch(value):
                if int(value) in ids:
                    record[key], is_remarkable = int(value), True
        return is_remarkable

    return mend


def _finite(text: str) -> float:
    """A number; those too large for 64 bits would become infinite without a word."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text:.40} is too large a number")
    return value


def _check_top(source: Any, name: str) -> None:
    if isinstance(source, list):
        raise fault(
            "E102",
            f"{name} holds a list at its top level: this is a results file; "
            "pass an instances JSON.",
        )
    if not isinstance(source, dict):
        raise fault("E102", f"{name} holds {source!r:.40}; expected an instances JSON.")


def _check_lists(parts: dict[str, Any], name: str) -> None:
    for key in LISTS:
        value = parts.get(key)
        if not isinstance(value, list):
            kind = type(value).__name__ if value else "empty"
            state = "missing" if key not in parts else f"{kind}, not a list"
            if key in parts and value is None:
                state = "null"
            raise fault("E102", f"{name}: `{key}` is {state}; expected a list.")


def _ids(records: Sequence[Any], key: str, name: str) -> list[int | str]:
    ids = []
    for position, record in enumerate(records):
        if not isinstance(record, dict) or not is_id(record.get("id")):
            raise fault(
                "E102",
                f"{name}: entry {position} of `{key}` has no usable id; "
                "expected a number or a string.",
            )
        ids.append(record["id"])
    return ids


def _refuse_repeats(ids: list[int | str], kind: str, code: str, name: str) -> None:
    seen: set[int | str] = set()
    twice = [identity for identity in ids if identity in seen or seen.add(identity)]
    if twice:
        listed = ", ".join(f"{identity!r:.80}" for identity in twice[:_MAX_LISTED])
        raise fault(
            code,
            f"{name}: {len(twice)} {kind} ids occur more than once: {listed}. "
            f"{kind.capitalize()} ids must be unique.",
        )
