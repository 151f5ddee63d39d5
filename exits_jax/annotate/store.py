"""All that is known of a folder's objects: in memory, in the journal, in the snapshot.

The journal is the truth. A snapshot says up to which of its lines it goes; a start
reads the snapshot and replays the lines that are later.
"""

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from exits_jax.annotate.events import Event, EventError, Thing, check_event
from exits_jax.annotate.folder import Picture, pictures_in, sized
from exits_jax.annotate.journal import Journal
from exits_jax.annotate.review import read_again, read_source
from exits_jax.annotate.snapshot import (
    record_of,
    thing_of,
    unread_record,
    write_snapshot,
)
from exits_jax.data.coco_file import CocoFile
from exits_jax.data.records import fault, is_length
from exits_jax.files.json_files import json_text
from exits_jax.files.locks import take_lock

_MAX_CLIENTS = 200  # whose last events are remembered


class Task(NamedTuple):
    """What is annotated, and where it goes."""

    folder: Path
    out: Path
    classes: Sequence[str] = ()
    review: Path | None = None  # masks to look at, instead of an empty start


class Store:
    """Objects of a folder; one process at a time may have the same `out`."""

    def __init__(self, task: Task):
        """Reads what earlier calls wrote, and makes the files that are missing.

        Raises:
            InUse: If another process has the same `out`.
            FileNotFoundError: If a folder or file is not there, or has no image.
            AnnotationError: If a file cannot be used; says which and why.
            OSError: If the disk does not take the first files.
        """
        self.task, self.remarks = task, list[str]()
        task.out.parent.mkdir(parents=True, exist_ok=True)
        self._lock_file = take_lock(task.out.with_name(f"{task.out.name}.lock"))
        self._lock = threading.RLock()
        self._writing = threading.Lock()
        self.things: dict[str, Thing] = {}
        self._texts: dict[str, str | None] = {}  # of annotations, as they are written
        self._last: dict[str, int] = {}  # of each client, the event taken last
        self.rest: dict[str, Any] = {}
        self._saved = -1
        try:
            self._load()
            self.snapshot()
        except BaseException:
            self._lock_file.close()
            raise

    def _load(self) -> None:
        out, path = self.task.out, _journal_path(self.task.out)
        notes: dict[str, Any] = {}
        pictures: list[Picture] = []
        lines: list[dict[str, Any]] = []
        if out.exists():
            notes, pictures = self._read_out(out)
        elif self.task.review is not None:
            source = read_source(self.task.review, self.task.folder)
            pictures, self.categories = source.pictures, source.categories
            self.things = {thing.key: thing for thing in source.things}
            self.rest = source.rest
        else:
            self.categories = []
        files: dict[str, int | str] = dict(notes.get("files", {}))
        _give(files, ((each.name, each.id) for each in pictures))
        if path.exists():
            self.journal, lines, cut = Journal.reopen(path)
            if cut:
                said = f"{path}: the last line was never finished and is left out"
                self.remarks.append(f"{said} ({cut} bytes).")
            self._check_pair(notes, len(lines))
            _give(files, ((line["file"], line["event"]["image"]) for line in lines))
            if not out.exists():
                self.categories = self.journal.header["categories"]
            lines = lines[notes.get("upto", 0) :]
        if self.task.review is None:
            pictures = pictures_in(self.task.folder, files)
            used = {each.image for each in self.things.values()}
            used |= {line["event"]["image"] for line in lines}
            for name in sorted(files.keys() - {each.name for each in pictures}):
                if files[name] in used:
                    lost = Picture(files[name], name, (0, 0), "It is missing.")
                    pictures.append(lost)
            _give(files, ((each.name, each.id) for each in pictures))
        self.pictures, self._files = pictures, files
        self.place_of = {each.id: place for place, each in enumerate(pictures)}
        self._add_classes()
        if not path.exists():
            if notes.get("upto"):
                self.remarks.append(f"{path} is missing: it starts anew.")
            self.journal = Journal.create(path, {"categories": self.categories})
        for line in lines:
            self._take(msgspec.convert(line["event"], Event))
        for thing in self.things.values():
            place = self.place_of.get(thing.image)
            if thing.unread and place is not None and not self.pictures[place].fault:
                read_again(thing, self.pictures[place].size)
        self._remark_on_faults()

    def _remark_on_faults(self) -> None:
        names = {each.id: each.name for each in self.pictures if each.fault}
        kept = [each.image for each in self.things.values() if each.image in names]
        if kept:
            self.remarks.append(
                f"Images that are missing or cannot be read: {len(set(kept))}, with "
                f"{len(kept)} objects, such as {names[kept[0]]!a:.200}. The objects "
                "are kept as they are until the images are back."
            )

    def _read_out(self, out: Path) -> tuple[dict[str, Any], list[Picture]]:
        source = CocoFile.read(out)
        info = source.rest.get("info") or {}
        notes = (info.get("exits_jax") or {}).get("annotate")
        if not isinstance(notes, dict):
            raise fault(
                "E102",
                f"{out} was not written by this command, and is not overwritten: give "
                f"another --out, or look at its masks with --review={out}.",
            )
        self.categories, self.rest = list(source.categories), source.rest
        entries = [(each["id"], each["file_name"], each) for each in source.images]
        pictures = sized(self.task.folder, entries)
        others = [msgspec.convert(each, Thing) for each in notes["others"]]
        unread = {each.key for each in others if each.unread}
        records = (each for each in source.annotations)
        things = [thing_of(e) for e in records if e["exits"]["key"] not in unread]
        things += others
        order = {key: place for place, key in enumerate(notes["order"])}
        things.sort(key=lambda thing: order.get(thing.key, len(order)))
        self.things = {thing.key: thing for thing in things}
        self._last = dict(notes["clients"])
        return notes, pictures

    def _check_pair(self, notes: dict[str, Any], count: int) -> None:
        """The snapshot must be one of this journal."""
        path, out = self.journal.path, self.task.out
        if notes and notes.get("journal") != self.journal.identity:
            raise fault(
                "E102",
                f"{path} is not the journal of {out}: move the one that is wrong away.",
            )
        if notes.get("upto", 0) > count:
            raise fault(
                "E102",
                f"{path} has {count} events, but {out} was made from "
                f"{notes['upto']}: an older copy was put back. Move it away to go on "
                "from the newer file alone.",
            )

    def _add_classes(self) -> None:
        known = {each["name"] for each in self.categories}
        names = [name for name in self.task.classes if name not in known]
        if not self.categories and not names:
            names = ["object"]
        ids = [each["id"] for each in self.categories if type(each["id"]) is int]
        for number, name in enumerate(dict.fromkeys(names), max(ids, default=0) + 1):
            self.categories.append({"id": number, "name": name})

    @property
    def upto(self) -> int:
        """Number of events that are on the disk."""
        return self.journal.lines

    def add(self, events: Iterable[Event]) -> int:
        """Takes events, once they are on the disk; those it has already change nothing.

        Returns:
            `upto`.

        Raises:
            EventError: If one makes no sense; none is taken.
            OSError: If the disk does not take them; none is taken.
        """
        with self._lock:
            fresh, last = list[Event](), dict(self._last)
            for event in events:
                if event.n > last.get(event.client, 0):
                    last[event.client] = event.n
                    self._check(event)
                    fresh.append(event)
            if fresh:
                self.journal.append([self._line(event) for event in fresh])
                for event in fresh:
                    self._take(event)
            return self.upto

    def _check(self, event: Event) -> None:
        place = self.place_of.get(event.image)
        if place is None or self.pictures[place].fault:
            raise EventError(f"There is no image with the id {event.image!r:.80}.")
        thing = self.things.get(event.object)
        if thing is not None and thing.image != event.image:
            raise EventError(f"Object {event.object} belongs to another image.")
        categories = {each["id"] for each in self.categories}
        check_event(event, self.pictures[place].size, categories)

    def _line(self, event: Event) -> dict[str, Any]:
        file = self.pictures[self.place_of[event.image]].name
        return {"file": file, "event": event}

    def _take(self, event: Event) -> None:
        thing = self.things.get(event.object)
        if thing is None:
            thing = self.things[event.object] = Thing(
                key=event.object,
                id=self._new_id(),
                image=event.image,
                category=self.categories[0]["id"],
            )
        thing.merge(event.set)
        if event.set.rle is not UNSET:
            thing.unread = False  # the mask of the record is no longer wanted
        self._texts.pop(event.object, None)
        self._last.pop(event.client, None)
        self._last[event.client] = event.n  # the latest client stands last
        while len(self._last) > _MAX_CLIENTS:
            del self._last[next(iter(self._last))]

    def _new_id(self) -> int:
        if not hasattr(self, "_next_id"):
            ids = [each.id for each in self.things.values() if type(each.id) is int]
            self._next_id = max(ids, default=0)
        self._next_id += 1
        return self._next_id

    def of_image(self, identity: int | str) -> list[Thing]:
        """Its objects, oldest first."""
        with self._lock:
            return [each for each in self.things.values() if each.image == identity]

    def snapshot(self) -> None:
        """Writes `out`, if anything has changed; the objects may change meanwhile.

        Raises:
            OSError: If the disk does not take it; the older file stays.
        """
        with self._writing:
            with self._lock:
                upto = self.upto
                if upto == self._saved:
                    return
                texts, others = list[str](), list[Any]()
                for key, thing in self.things.items():
                    if key not in self._texts:
                        self._texts[key] = self._text(thing)
                    if (text := self._texts[key]) is not None:
                        texts.append(text)
                    if text is None or thing.unread:
                        others.append(msgspec.to_builtins(thing))
                notes = {
                    "journal": self.journal.identity,
                    "file": self.journal.path.name,
                    "upto": upto,
                    "files": self._files,
                    "clients": dict(self._last),
                    "order": list(self.things),
                    "others": others,
                }
            write_snapshot(
                self.task.out, self.pictures, self.categories, texts, notes, self.rest
            )
            self._saved = upto

    def _text(self, thing: Thing) -> str | None:
        place = self.place_of.get(thing.image)
        if place is None:
            return None
        picture = self.pictures[place]
        if thing.unread:
            is_whole = picture.base and thing.status == "done"
            return json_text(unread_record(thing)) if is_whole else None
        size = picture.size
        if picture.fault:  # read earlier, gone now
            sides = [picture.base.get(side) for side in ("height", "width")]
            if not all(map(is_length, sides)):
                return None
            size = (picture.base["height"], picture.base["width"])
        record = record_of(thing, size)
        return None if record is None else json_text(record)

    def close(self) -> None:
        """Writes the last snapshot and lets others have the files."""
        self.snapshot()
        self.journal.close()
        self._lock_file.close()


def _journal_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.journal.jsonl")


def _give(files: dict[str, int | str], pairs: Iterable[tuple[str, int | str]]) -> None:
    """Adds names with their ids; neither a name nor an id is given twice."""
    taken = set(files.values())
    for name, number in pairs:
        if name not in files and number not in taken:
            files[name] = number
            taken.add(number)
