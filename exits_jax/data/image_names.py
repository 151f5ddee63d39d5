"""The one rule by which a name in an annotation file leads to an image; pure.

A name is taken as it is written where there is such a file. Else it is read as other
programs may have written it, the least change first, and a reading counts only if it
leads to one file. How the file was found is said by a word of `HOW`.

Only a path that was made elsewhere (absolute, with a drive, an address, with ".." or
backslashes) is cut to its ends, the longest first. A plain relative path is not: of
train/1.jpg and val/1.jpg the same file would be left.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import unquote

from exits_jax.data.records import AnnotationError, fault

HOW = {
    "end": "of a path that leads elsewhere, an end is taken",
    "ending": "the case of the ending differs",
    "no_ending": "its name has no ending; the only image of that name is taken",
    "percent": "percent and plus signs are decoded",
    "slashes": "backslashes are read as slashes",
    "subset": "it is in the folder of its subset",
    "unicode": "its accents are in another Unicode form",
    "upload": "the prefix of an upload is left out",
}
AS_WRITTEN = ("", "slashes", "subset")  # what a name says, however it is written
_MAX_PARTS = 32  # of a path that ends are made of
# Endings of names of images, of those that are read here and of others.
READ_ENDINGS = ("jpg", "jpeg", "jfif", "png", "webp", "tif", "tiff", "bmp", "gif")
READ_ENDINGS += ("pbm", "pgm", "pnm", "ppm", "jp2", "avif")
ENDINGS = (*READ_ENDINGS, "heic")
_ENDING = re.compile(rf"\.({'|'.join(ENDINGS)})\Z", re.IGNORECASE)
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")  # what Label Studio puts before names
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_START = re.compile(rf"{_ADDRESS.pattern}|/")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_SEPARATOR = re.compile(r"[/\\]")
_NOTHING = ("", ".", "..")


class Reading(NamedTuple):
    """One way to read a name."""

    name: str  # relative, with slashes
    how: str  # a key of HOW; "" as it is written


def source_name(image: Mapping[str, Any]) -> Any:
    """The name of an entry of `images` in COCO: `file_name`; in LVIS, `coco_url`."""
    name = image.get("file_name")
    return image.get("coco_url") if name is None else name


def is_foreign(path: str) -> bool:
    """Whether a path was made elsewhere, so that only its end can be known here."""
    is_url = _ADDRESS.match(path) is not None
    return is_url or path[:1] == "/" or "\\" in path or ".." in path.split("/")


def readings(path: str, *, any_end: bool = False) -> Iterable[Reading]:
    """The ways to read a path, the most likely first.

    Args:
        path: As it is written.
        any_end: Its ends count even if it looks like a path of here.
    """
    texts = [path, unquote(path), unquote(path.replace("+", " "))]
    for text in dict.fromkeys(texts):
        how = "" if text == path else "percent"
        parts = name_parts(text)
        whole = "/".join(parts)
        if not (any_end or is_foreign(text)):
            yield Reading(whole, how)
            continue
        is_relative = text.replace("\\", "/").removeprefix("./") == whole
        for start in range(max(0, len(parts) - _MAX_PARTS), len(parts)):
            name = "/".join(parts[start:])
            if start == 0 and is_relative:
                yield Reading(name, how or ("slashes" if "\\" in text else ""))
            else:
                yield Reading(name, how or "end")


def has_ending(path: str) -> bool:
    """Whether a path ends as those of images do."""
    return _ENDING.search(path) is not None


def last_part(path: str) -> str:
    """The part of a path behind its last separator, of Windows or POSIX."""
    return _SEPARATOR.split(path)[-1]


def normal_form(path: str) -> str:
    """A path such that two of them are equal if they cannot mean different files."""
    if path.isascii() and "\\" not in path:
        return without_dots(path)  # most are
    return without_dots(unicodedata.normalize("NFC", "/".join(_SEPARATOR.split(path))))


def without_dots(path: str) -> str:
    """A path without its parts that lead nowhere: empty ones and "."."""
    if "//" not in path and "./" not in path:
        return path  # most are
    start = _START.match(path)
    lead = start.group() if start else ""
    parts = path[len(lead) :].split("/")
    return lead + "/".join(part for part in parts if part not in ("", "."))


class Listing:
    """The names in a folder, to be asked for one that is written a little otherwise."""

    def __init__(self, names: Iterable[str]):
        self._names: dict[str, list[str]] = {}
        for name in names:
            self._names.setdefault(_folded(name), []).append(name)
        self._stems: dict[str, list[str]] | None = None

    def like(self, name: str, *, is_file: bool = True) -> tuple[list[str], str]:
        """The names that a name may stand for, and how; all of equal right.

        Args:
            name: Without separators.
            is_file: A folder has no ending and no prefix.
        """
        if found := self._exact_or_folded(name):
            if name in found:
                return [name], ""
            nfc = unicodedata.normalize("NFC", name)
            same = [one for one in found if unicodedata.normalize("NFC", one) == nfc]
            return (same, "unicode") if same else (found, "ending")
        if is_file and not _ENDING.search(name):
            if found := self._by_stem().get(unicodedata.normalize("NFC", name)):
                return found, "no_ending"
        bare = _UPLOAD.sub("", name, count=1) if _UPLOAD.match(name) else ""
        if is_file and bare and (found := self._exact_or_folded(bare)):
            return ([bare] if bare in found else found), "upload"
        return [], ""

    def _exact_or_folded(self, name: str) -> list[str]:
        return self._names.get(_folded(name), [])

    def _by_stem(self) -> dict[str, list[str]]:
        if self._stems is None:
            self._stems = {}
            for name in (name for names in self._names.values() for name in names):
                if ending := _ENDING.search(name):
                    stem = unicodedata.normalize("NFC", name[: ending.start()])
                    self._stems.setdefault(stem, []).append(name)
        return self._stems


def one_of_two(words: str, name: str, theirs: str) -> AnnotationError:
    """The error for an image whose file is another one's by its name (E111).

    Args:
        words: The image for people.
        name: Of the file.
        theirs: The other image for people.
    """
    return fault(
        "E111",
        f"The image {words:.200} has no file of its own: {name!r:.200} in the image "
        f"folder stands for {theirs:.200}. Two images of one name need folders of "
        "their own, which their names begin with.",
    )


def contested(words: str, name: str, others: Iterable[str]) -> AnnotationError:
    """The error for a file that several names lead to, none as it is written (E111).

    Args:
        words: The image for people.
        name: Of the file.
        others: What else leads to it, the image itself perhaps among them.
    """
    first = islice((other for other in others if other != words), 2)
    listed = ", ".join(f"{other:.120}" for other in first)
    return fault(
        "E111",
        f"The image {words:.200} has no file of its own: {name!r:.200} in the image "
        f"folder is what {listed} lead to as well, so it is taken for none of them. "
        "Keep their folders below the image folder.",
    )


def several(name: str, found: list[str], how: str) -> AnnotationError:
    """The error for a name that may mean several files (E111)."""
    listed = ", ".join(f"{one!r:.80}" for one in sorted(found)[:4])
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    return fault(
        "E111",
        f"its file {name!r:.200} is missing, and {listed}{more} may be meant "
        f"({HOW[how]}): which of them is not told.",
    )


def name_parts(path: str) -> list[str]:
    """The parts of a path below a folder; of an address, without host and query."""
    if _ADDRESS.match(path):
        path = _ADDRESS.sub("", path, count=1).split("?")[0].split("#")[0]
        path = path.partition("/")[2]
    elif _DRIVE.match(path):
        path = path[3:]
    return [part for part in _SEPARATOR.split(path) if part not in _NOTHING]


def _folded(name: str) -> str:
    """A name in NFC, with its ending in lower case."""
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    ending = _ENDING.search(name)
    return name[: ending.start()] + ending.group().lower() if ending else name
