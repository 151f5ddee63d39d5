"""What to say where images are not in the folder that was named.

Most often that folder is one level too high or too low, so the folders around it are
looked into. Nothing is opened: all that is asked is whether there is such a file.
"""

import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from exits_jax.data.image_finder import ImageFinder
from exits_jax.data.image_names import last_part, source_name
from exits_jax.data.records import AnnotationError
from exits_jax.files.paths import is_inside

_MAX_FOLDERS = 500  # that are looked into
_MAX_LOOKED_FOR = 20  # images, spread over the list, that are looked for in each
_MAX_NAMED = 3  # folders that have some of the images
_MAX_FOLDERS_NAMED = 8
_MAX_PREFIXES = 16  # folders in front of a name


class FolderAdvice(NamedTuple):
    """How much of what was looked for a folder has, and where the others are."""

    found: int  # images in the folder
    total: int
    elsewhere: bool  # whether another folder has more of them
    text: str  # for people; empty if all were found


def advise_on_folder(
    names: Iterable[str], folder: str | Path, *, field: str = ""
) -> FolderAdvice:
    """Counts images in a folder and looks for the missing ones in those around it.

    Args:
        names: File names as the annotations have them.
        folder: What they should be relative to; it need not exist.
        field: Of the configuration, such as "data.images", that names the folder;
            empty: none does.
    """
    folder = Path(folder)
    names = [name for name in names if is_inside(name)]
    missing = [name for name in names if not os.path.isfile(folder / name)]
    found, total = len(names) - len(missing), len(names)
    is_there = folder.is_dir()
    if not missing and is_there:
        return FolderAdvice(found, total, False, "")
    start = f"{found} of {total} images found in {folder}"
    if not is_there:
        start = f"Image folder {folder} does not exist"
    some = missing[:: max(1, len(missing) // _MAX_LOOKED_FOR)][:_MAX_LOOKED_FOR]
    counts = {
        place: _count(names, place) for place in _around(folder) if _count(some, place)
    }
    best = sorted(counts, key=lambda place: -counts[place])[:_MAX_NAMED]
    if best and counts[best[0]] == total:
        flag = f": {shlex.quote(f'--config.{field}={best[0]}')}" if field else "."
        return FolderAdvice(found, total, True, f"{start}; {best[0]} has them{flag}")
    if best and counts[best[0]] > found:
        listed = ", ".join(f"{place} has {counts[place]}" for place in best)
        return FolderAdvice(found, total, True, f"{start}; {listed}.")
    if not is_there:
        return FolderAdvice(found, total, False, f"{start}{_beside(folder)}.")
    first = f"the first that is missing: {missing[0]!a:.200}."
    for prefix in dict.fromkeys(_prefixes(some)):
        bare = [name.removeprefix(prefix) for name in some]
        if _count(bare, folder) == len(some):
            first = f"it has them under names without {prefix!a:.80} in front."
            return FolderAdvice(found, total, True, f"{start}; {first}")
    return FolderAdvice(found, total, False, f"{start}; {first}")


def file_names(images: Iterable[Any], folder: str | Path) -> Iterator[str]:
    """The file names of entries of `images`; in LVIS, the end of the address.

    Args:
        images: The entries.
        folder: Where a longer end of an address is looked for.
    """
    finder = ImageFinder(folder, follow_links=True)
    for image in images:
        name = source_name(image)
        if not isinstance(name, str):
            continue
        try:
            yield finder.find(name, any_end=image.get("file_name") is None).name
        except (AnnotationError, FileNotFoundError):
            yield name if is_inside(name) else last_part(name)


def _beside(folder: Path) -> str:
    """The folders next to one that does not exist."""
    above = _above(folder)
    names = [place.name for place in _children(above)[:_MAX_FOLDERS_NAMED]]
    return f"; {above} has the folders {', '.join(names)}" if names else ""


def _count(names: Sequence[str], folder: Path) -> int:
    return sum(os.path.isfile(os.path.join(folder, name)) for name in names)


def _prefixes(names: Sequence[str]) -> Iterator[str]:
    """What could stand in front of a name by mistake: its first folders."""
    for name in names[:1]:
        place = 0
        for _ in range(_MAX_PREFIXES):  # a name may have thousands of parts
            if not (place := name.find("/", place) + 1):
                return
            yield name[:place]


def _around(folder: Path) -> Iterator[Path]:
    """Folders below, above and beside a folder, two levels deep, near ones first."""
    folder = Path(os.path.normpath(folder))
    above = _above(folder)
    seen = {folder}
    for places in (_below(folder), [above], _below(above), [_above(above)]):
        for place in places:
            if place in seen:
                continue
            if len(seen) > _MAX_FOLDERS:
                return
            seen.add(place)
            yield place


def _above(folder: Path) -> Path:
    return Path(os.path.normpath(folder / os.pardir))


def _below(folder: Path) -> Iterator[Path]:
    children = _children(folder)
    yield from children
    for child in children:
        yield from _children(child)


def _children(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(
                entry.name
                for entry in entries
                if entry.is_dir() and not entry.name.startswith(".")
            )
    except OSError:
        return []
    return [folder / name for name in names[:_MAX_FOLDERS]]
