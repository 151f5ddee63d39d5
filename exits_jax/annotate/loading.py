"""What earlier calls wrote, read again: the snapshot, and the journal's later lines."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from exits_jax.annotate.events import Thing
from exits_jax.annotate.folder import Picture, pictures_in, sized
from exits_jax.annotate.journal import Journal
from exits_jax.annotate.review import read_source
from exits_jax.annotate.snapshot import thing_of
from exits_jax.data.coco_file import CocoFile
from exits_jax.data.records import fault


class Task(NamedTuple):
    """What is annotated, and where it goes."""

    folder: Path
    out: Path
    classes: Sequence[str] = ()
    review: Path | None = None  # masks to look at, instead of an empty start


@dataclass
class Loaded:
    """What is known at a start.

    Attributes:
        categories: Classes, as COCO has them.
        rest: Further fields of the snapshot, or of what is reviewed.
        things: Objects by their keys, as the snapshot has them.
        clients: Of each, the number of its last event that was taken.
        pictures: The images.
        files: Their ids by name, those of images that are gone, too.
        journal: Open, to be added to.
        lines: Events of it that are later than the snapshot.
        told: Names of the classes whose ids the journal has.
        remarks: What a person should know.
    """

    categories: list[dict[str, Any]] = field(default_factory=list)
    rest: dict[str, Any] = field(default_factory=dict)
    things: dict[str, Thing] = field(default_factory=dict)
    clients: dict[str, int] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    files: dict[str, int | str] = field(default_factory=dict)
    journal: Journal = None  # pyright: ignore[reportAssignmentType]
    lines: list[dict[str, Any]] = field(default_factory=list)
    told: set[str] = field(default_factory=set)
    remarks: list[str] = field(default_factory=list)


def load(task: Task) -> Loaded:
    """Reads the files of a task; makes the journal if there is none.

    Raises:
        FileNotFoundError: If a folder or file is not there, or has no image.
        AnnotationError: If a file cannot be used; says which and why.
        OSError: If the disk does not take the journal.
    """
    found, path = Loaded(), journal_path(task.out)
    notes: dict[str, Any] = {}
    if task.out.exists():
        notes = _read_out(task, found)
    elif task.review is not None:
        source = read_source(task.review, task.folder)
        found.pictures, found.categories = source.pictures, source.categories
        found.things = {thing.key: thing for thing in source.things}
        found.rest = source.rest
    found.files = dict(notes.get("files", {}))
    _give(found.files, ((each.name, each.id) for each in found.pictures))
    if path.exists():
        _read_journal(task, found, notes)
    if task.review is None:
        _list_pictures(task, found)
    _add_classes(found.categories, task.classes)
    if path.exists():
        _tell_classes(found)
    else:
        if notes.get("upto"):
            found.remarks.append(f"{path} is missing: it starts anew.")
        found.journal = Journal.create(path, {"categories": found.categories})
    return found


def journal_path(out: Path) -> Path:
    """Where the journal of a file is."""
    return out.with_name(f"{out.name}.journal.jsonl")


def add_class(categories: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The class of a name, a new one if there is none; returns its entry."""
    made = class_of(categories, name)
    if made not in categories:
        categories.append(made)
    return made


def class_of(categories: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The entry of a class, as it would be added where there is none."""
    for each in categories:
        if each["name"] == name:
            return each
    ids = [each["id"] for each in categories if type(each["id"]) is int]
    return {"id": max(ids, default=0) + 1, "name": name}


def _read_out(task: Task, found: Loaded) -> dict[str, Any]:
    """Takes over the snapshot; returns what it says of its journal."""
    source = CocoFile.read(task.out)
    info = source.rest.get("info") or {}
    notes = (info.get("exits_jax") or {}).get("annotate")
    if not isinstance(notes, dict):
        raise fault(
            "E102",
            f"{task.out} was not written by this command, and is not overwritten: "
            f"give another --out, or look at its masks with --review={task.out}.",
        )
    found.categories, found.rest = list(source.categories), source.rest
    entries = [(each["id"], each["file_name"], each) for each in source.images]
    found.pictures = sized(task.folder, entries)
    others = [msgspec.convert(each, Thing) for each in notes["others"]]
    unread = {each.key for each in others if each.unread}
    records = (each for each in source.annotations)
    things = [thing_of(e) for e in records if e["exits"]["key"] not in unread]
    things += others
    order = {key: place for place, key in enumerate(notes["order"])}
    things.sort(key=lambda thing: order.get(thing.key, len(order)))
    found.things = {thing.key: thing for thing in things}
    found.clients = dict(notes["clients"])
    return notes


def _read_journal(task: Task, found: Loaded, notes: dict[str, Any]) -> None:
    path = journal_path(task.out)
    found.journal, lines, cut = Journal.reopen(path)
    if cut:
        said = f"{path}: the last line was never finished and is left out"
        found.remarks.append(f"{said} ({cut} bytes).")
    _check_pair(task, found.journal, notes, len(lines))
    events = [line for line in lines if "event" in line]
    _give(found.files, ((line["file"], line["event"]["image"]) for line in events))
    if not task.out.exists():
        found.categories = list(found.journal.header["categories"])
    classes = [line["class"] for line in lines if "class" in line]
    ids = {each["name"]: each["id"] for each in classes if isinstance(each, dict)}
    found.told = {*ids, *(each["name"] for each in found.journal.header["categories"])}
    found.lines = lines[notes.get("upto", 0) :]
    for line in found.lines:
        if "class" in line:  # before the words of this start give ids
            given = line["class"]
            # A name alone, as lines once were, has its id in a later line, if at all.
            name = given["name"] if isinstance(given, dict) else given
            if name not in {each["name"] for each in found.categories}:
                made = class_of(found.categories, name)
                found.categories.append({**made, "id": ids.get(name, made["id"])})
    found.lines = [line for line in found.lines if "event" in line]


def _tell_classes(found: Loaded) -> None:
    """Adds to the journal the classes that it has not, with their ids.

    So that the snapshot can be made again from the journal alone.
    """
    fresh = [each for each in found.categories if each["name"] not in found.told]
    if fresh:
        found.journal.append([{"class": each} for each in fresh])


def _check_pair(
    task: Task, journal: Journal, notes: dict[str, Any], count: int
) -> None:
    """The snapshot must be one of this journal."""
    path, out = journal.path, task.out
    if notes and notes.get("journal") != journal.identity:
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


def _list_pictures(task: Task, found: Loaded) -> None:
    """The images of the folder, and those that are gone but were annotated."""
    found.pictures = pictures_in(task.folder, found.files)
    used = {each.image for each in found.things.values()}
    used |= {line["event"]["image"] for line in found.lines}
    for name in sorted(found.files.keys() - {each.name for each in found.pictures}):
        if found.files[name] in used:
            lost = Picture(found.files[name], name, (0, 0), "It is missing.")
            found.pictures.append(lost)
    _give(found.files, ((each.name, each.id) for each in found.pictures))


def _add_classes(categories: list[dict[str, Any]], names: Iterable[str]) -> None:
    for name in names:
        add_class(categories, name)
    if not categories:
        add_class(categories, "object")


def _give(files: dict[str, int | str], pairs: Iterable[tuple[str, int | str]]) -> None:
    """Adds names with their ids; neither a name nor an id is given twice."""
    taken = set(files.values())
    for name, number in pairs:
        if name not in files and number not in taken:
            files[name] = number
            taken.add(number)
