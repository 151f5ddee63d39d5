"""Finds image files by the names that annotation files have for them.

The rule is that of `image_names`; here the folder is looked into. Nothing is opened,
and nothing outside the folder is looked for.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from exits_jax.data.image_names import (
    Listing,
    is_foreign,
    last_part,
    name_parts,
    readings,
    several,
    without_dots,
)
from exits_jax.data.records import AnnotationError, fault
from exits_jax.files.paths import is_inside, leads_out


class Found(NamedTuple):
    """An image file below the folder; it exists."""

    name: str  # relative to the folder, with slashes; one spelling per file
    how: str  # a key of `image_names.HOW`; "" under the name as it is written


class ImageFinder:
    """Looks for images below one folder; its listings are made when first needed."""

    def __init__(self, folder: str | Path, *, follow_links: bool = False):
        self.folder, self._follow_links = str(folder), follow_links
        self._listings: dict[str, Listing] = {}

    def path(self, found: Found) -> str:
        """Where a file that was found lies."""
        return os.path.join(self.folder, found.name)

    def find(
        self, name: Any, *, preferred: Sequence[str] = (), any_end: bool = False
    ) -> Found:
        """The file that a name leads to.

        Args:
            name: As the source has it.
            preferred: Names in the folder of a subset, which come first.
            any_end: The name is a path of another machine, whatever it looks like.

        Raises:
            AnnotationError: The name, or a link, leads out of the folder (E112), or it
                may mean several files (E111).
            FileNotFoundError: There is no such file.
        """
        preferred = [without_dots(other) for other in preferred]
        for other in preferred:
            if is_inside(other) and self._is_file(other):
                return self._checked(Found(other, "subset"))
        if isinstance(name, str) and is_inside(name) and self._is_file(name):
            return self._checked(Found(without_dots(name), ""))
        if isinstance(name, str) and "\0" not in name:
            for other in preferred:
                if is_inside(other) and (found := self._like(other)):
                    return self._checked(found._replace(how="subset"))
            for reading in readings(name, any_end=any_end):
                if is_inside(reading.name) and (found := self._like(reading.name)):
                    how = reading.how or found.how
                    return self._checked(found._replace(how=how))
        names_something = isinstance(name, str) and name_parts(name)
        if not names_something or not (any_end or is_inside(name)):
            end = isinstance(name, str) and is_foreign(name)
            raise fault(
                "E112",
                f"the unsafe file name {name!r:.200}; expected a path below the image "
                f"folder{', where no end of it is a file' if end else ''}.",
            )
        raise FileNotFoundError(os.path.join(self.folder, name))

    def _like(self, name: str) -> Found | None:
        """The one file below the folder that a relative path may mean."""
        if self._is_file(name):
            return Found(name, "")
        *folders, last = name.split("/")
        place = how = ""
        for folder in folders:
            if not os.path.isdir(os.path.join(self.folder, place, folder)):
                found, how = self._listing(place).like(folder, is_file=False)
                if len(found) != 1:
                    return None
                folder = found[0]
            place = f"{place}{folder}/"
        found, last_how = self._listing(place).like(last)
        found = [one for one in found if self._is_file(place + one)]
        if len(found) > 1:
            raise several(name, found, last_how)
        return Found(place + found[0], last_how or how) if found else None

    def _listing(self, place: str) -> Listing:
        if place not in self._listings:
            try:
                names = os.listdir(os.path.join(self.folder, place))
            except OSError:
                names = []
            self._listings[place] = Listing(names)
        return self._listings[place]

    def _is_file(self, name: str) -> bool:
        return os.path.isfile(os.path.join(self.folder, name))

    def _checked(self, found: Found) -> Found:
        if not self._follow_links and leads_out(self.path(found), self.folder):
            raise fault(
                "E112",
                f"the file name {found.name!r:.200}, a link that leads out of "
                f"{self.folder}; set data.follow_links=True if the links there are "
                "your own.",
            )
        return found


def name_in(address: str, folder: Path | None) -> str:
    """The name of an image of which only the address is known, as in LVIS.

    Args:
        address: Where it came from; nothing is ever downloaded.
        folder: The image folder, where the longest end is looked for.
    """
    if folder is not None:
        try:
            return ImageFinder(folder, follow_links=True).find(address, any_end=True)[0]
        except (AnnotationError, FileNotFoundError):
            pass
    return last_part(address)
