"""All that is known of a folder's objects: in memory, in the journal, in the snapshot.

The journal is the truth. A snapshot says up to which of its lines it goes; a start
reads the snapshot and replays the lines that are later.
"""

import threading
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET

from exits_jax.annotate.events import Event, EventError, Thing, check_event
from exits_jax.annotate.loading import Task, add_class, class_of, load
from exits_jax.annotate.review import read_again
from exits_jax.annotate.snapshot import record_of, unread_record, write_snapshot
from exits_jax.data.records import is_length
from exits_jax.files.json_files import json_text
from exits_jax.files.locks import take_lock

__all__ = ["Store", "Task"]

_MAX_CLIENTS = 200  # whose last events are remembered
_MAX_CLASSES = 2000


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
        self.task = task
        task.out.parent.mkdir(parents=True, exist_ok=True)
        self._lock_file = take_lock(task.out.with_name(f"{task.out.name}.lock"))
        self._lock = threading.RLock()
        self._writing = threading.Lock()
        self._texts: dict[str, str | None] = {}  # of annotations, as they are written
        self._saved = -1
        try:
            self._start()
            self.snapshot()
        except BaseException:
            self._lock_file.close()
            raise

    def _start(self) -> None:
        found = load(self.task)
        self.remarks, self.rest = found.remarks, found.rest
        self.categories, self.things = found.categories, found.things
        self.pictures, self._files = found.pictures, found.files
        self.journal, self._last = found.journal, found.clients
        self.place_of = {each.id: place for place, each in enumerate(self.pictures)}
        for line in found.lines:
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

    def add_class(self, name: str) -> dict[str, Any]:
        """The class of a name, once it is on the disk; one that is known stays.

        Raises:
            EventError: If there are too many.
            OSError: If the disk does not take it.
        """
        with self._lock:
            if name not in {each["name"] for each in self.categories}:
                if len(self.categories) >= _MAX_CLASSES:
                    raise EventError(f"There are {_MAX_CLASSES} classes already.")
                made = class_of(self.categories, name)
                self.journal.append([{"class": made}])
            return add_class(self.categories, name)

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
                categories = list(self.categories)
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
                self.task.out, self.pictures, categories, texts, notes, self.rest
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
