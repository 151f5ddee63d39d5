"""The images of a folder, by number: no path ever comes from a client."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from exits_jax.data.image_names import READ_ENDINGS
from exits_jax.data.images import ImageError, check_image
from exits_jax.files.paths import is_inside, leads_out

SUFFIXES = frozenset(f".{ending}" for ending in READ_ENDINGS)


class Picture(NamedTuple):
    """One image file."""

    id: int | str
    name: str  # relative to the folder
    size: tuple[int, int]  # (height, width); (0, 0) where it cannot be read
    fault: str = ""  # why it cannot be read
    base: Mapping[str, Any] = {}  # the record that it came from


def pictures_in(folder: Path, known: Mapping[str, int | str]) -> list[Picture]:
    """The images below a folder, by name; hidden ones and links out of it are left out.

    Args:
        folder: Where to look.
        known: Ids that some file names have already; others get new ones.

    Raises:
        FileNotFoundError: If there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"Image folder {folder} does not exist.")
    names = sorted(_names(folder))
    if not names:
        raise FileNotFoundError(
            f"There is no image in {folder}; expected {', '.join(sorted(SUFFIXES))}."
        )
    last = max((number for number in known.values() if type(number) is int), default=0)
    ids: dict[str, int | str] = {}
    for name in names:
        if (number := known.get(name)) is None:
            number = last = last + 1
        ids[name] = number
    return sized(folder, [(ids[name], name, {}) for name in names])


def sized(
    folder: Path, entries: list[tuple[int | str, str, Mapping[str, Any]]]
) -> list[Picture]:
    """Reads the headers of images, several at a time.

    Args:
        folder: Where they are.
        entries: Id, name and record of each.
    """
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(partial(_sized, folder), entries))


def _sized(folder: Path, entry: tuple[int | str, str, Mapping[str, Any]]) -> Picture:
    number, name, base = entry
    path = folder / name
    try:
        if not is_inside(name) or leads_out(str(path), str(folder)):
            raise ImageError(f"{name!a:.200} leads out of the image folder.")
        return Picture(number, name, check_image(path, full=False), base=base)
    except (ImageError, OSError) as error:
        said = str(error).replace(f"{folder}/", "")
        return Picture(number, name, (0, 0), said, base)


def _names(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            path = os.path.join(place, name)
            is_image = os.path.splitext(name)[1].lower() in SUFFIXES
            if name.startswith(".") or not is_image or leads_out(path, str(folder)):
                continue
            yield os.path.relpath(path, folder).replace(os.sep, "/")
