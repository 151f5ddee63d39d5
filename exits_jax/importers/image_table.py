"""The images of an import: each looked for once, numbered, its size known."""

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exits_jax.data.image_finder import Found, ImageFinder
from exits_jax.data.image_folder import FolderAdvice, advise_on_folder
from exits_jax.data.image_names import (
    AS_WRITTEN,
    HOW,
    contested,
    is_foreign,
    last_part,
    normal_form,
    one_of_two,
    without_dots,
)
from exits_jax.data.images import ImageError, check_image
from exits_jax.data.records import AnnotationError, StoredImage, fault, is_length
from exits_jax.importers.items import ImageItem

_MAX_LISTED = 3  # images that one file is contested by, in messages


@dataclass
class Claims:
    """The images that lead to one file by other names than its own.

    Attributes:
        others: A few of them, for people.
        owner: The image that has it as its name, for people; "" without one.
    """

    others: list[str]
    owner: str = ""


class ImageTable:
    """Numbers from 1 and sizes by file name; small, as there may be millions.

    A file is given to the first image that has it as its name. A file that images lead
    to by other names is given to none, if they are several; since a source is read as a
    stream, that is known only at its end. Then `contested` is not empty, and the source
    has to be read again into a table that knows it.

    Attributes:
        remarks: Name of the image, code and message: on images that were found in
            another way than by their name alone, until they are taken.
        contested: Who leads to it, by the file that they cannot share.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        follow_links: bool = False,
        known: Mapping[str, Claims] | None = None,
    ):
        self._finder = ImageFinder(folder, follow_links=follow_links)
        self._numbers: dict[str, int] = {}  # by what tells the images apart
        self._names: list[str] = []
        self._owners: list[str] = []  # what tells them apart, or their name
        self._of_file: dict[str, int] = {}
        self._found_otherwise: dict[int, str] = {}  # words of those, by number
        self._known = known or {}
        self.contested: dict[str, Claims] = {}
        self.remarks: list[tuple[str, str, str]] = []
        self._sizes = array("q")  # height, width of image 1, of image 2, ...
        self._faults: dict[str, tuple[str, str]] = {}
        self._missing: list[str] = []
        self._last: tuple[ImageItem, tuple[int, StoredImage]] | None = None

    def __len__(self) -> int:
        """How many images were found."""
        return len(self._names)

    def find(self, item: ImageItem) -> tuple[int, StoredImage]:
        """The number and the size of an image.

        The size is what the source says, or else what the file's header says. The
        file has to be there in either case.

        Raises:
            AnnotationError: The name leads out of the folder (E112), the file is
                missing (E111), cannot be read (E113) or is too large (E114), the stated
                size makes no sense (E104) or is not the one known before (E110).
        """
        if self._last is not None and self._last[0] is item:
            return self._last[1]
        key = item.identity or item.file_name
        if key in self._faults:
            raise fault(*self._faults[key])
        stated = _stated_size(item)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = self._look_up(item, key, stated)
        name = self._names[number - 1]
        size = self._sizes[2 * number - 2], self._sizes[2 * number - 1]
        if stated not in (None, size):
            raise fault(
                "E110",
                f"The image {item.file_name!r:.200} is said to be "
                f"{item.width}x{item.height} px here, but "
                f"{size[1]}x{size[0]} elsewhere.",
            )
        found = number, StoredImage(name, size, ())
        self._last = item, found
        return found

    def records(self) -> Iterator[dict[str, Any]]:
        """Entries of `images`, in the order of their numbers."""
        for number, name in enumerate(self._names, 1):
            height, width = self._sizes[2 * number - 2 : 2 * number]
            yield {"id": number, "file_name": name, "width": width, "height": height}

    def advice(self) -> FolderAdvice:
        """Where the images are, if they are not all in their folder."""
        return advise_on_folder(
            [*self._names, *self._missing], self._finder.folder, field="data.images"
        )

    def _look_up(
        self, item: ImageItem, key: str, stated: tuple[int, int] | None
    ) -> int:
        """The number of an image that was not asked for before."""
        name, folder = item.file_name, self._finder.folder
        preferred = (item.preferred,) if item.preferred else ()
        try:
            found = self._finder.find(name, preferred=preferred, any_end=item.any_end)
            size = stated or check_image(self._finder.path(found), full=False)
            number = self._claimed(found, item, size)
            if found.how:
                message = f"The image {name!r:.120} is {found.name!r:.120}"
                self.remarks.append((name, "W217", f"{message}: {HOW[found.how]}."))
            return number
        except AnnotationError as error:
            code, message = error.problems[0].code, error.problems[0].message
            if code == "E112" or message.startswith("its file"):
                message = f"The image has {message}"
            fault_found = code, message
        except FileNotFoundError:
            hint = f" {item.hint}" if item.hint else ""
            message = f"The image {name!r:.200} is missing in {folder}.{hint}"
            fault_found = "E111", message
            self._missing.append(last_part(name) if is_foreign(name) else name)
        except ImageError as error:
            fault_found = error.code, f"The image gives no size: {error}"
        except OSError as error:
            message = f"The image {name!r:.200} gives no size: {error.strerror}."
            fault_found = "E113", message
        self._faults[key] = fault_found
        raise fault(*fault_found)

    def _claimed(self, found: Found, item: ImageItem, size: tuple[int, int]) -> int:
        """The number of a file, which belongs to this image.

        Raises:
            AnnotationError: It may be another's (E111).
        """
        name, words = found.name, _words_of(item)
        owner = item.identity or normal_form(item.file_name)
        is_written = found.how in AS_WRITTEN
        own = without_dots(item.preferred), without_dots(item.identity)
        if item.is_loose and name not in own:
            is_written = False
        if not is_written and (claims := self._known.get(name)):
            if claims.owner:
                raise one_of_two(words, name, claims.owner)
            raise contested(words, name, claims.others)
        number = self._of_file.setdefault(name, len(self._names) + 1)
        if number > len(self._names):
            self._names.append(name)
            self._owners.append(owner)
            self._sizes.extend(size)
            if not is_written:
                self._found_otherwise[number] = words
            return number
        theirs = self._owners[number - 1]
        if theirs == owner:  # two spellings of one name
            return number
        if number in self._found_otherwise:
            first = Claims([self._found_otherwise[number]])
            claims = self.contested.setdefault(name, first)
            if is_written:
                claims.owner = claims.owner or owner
            elif len(claims.others) < _MAX_LISTED:
                claims.others.append(words)
        elif is_written:
            message = (
                f"{name!r:.120} is the name of {words} as well; it is taken for the "
                f"first image of that name ({theirs:.120}) alone."
            )
            self.remarks.append((name, "W106", message))
        raise one_of_two(words, name, theirs)


def _words_of(item: ImageItem) -> str:
    """The image for people: its name, and what else tells it apart."""
    name = f"{item.preferred or item.file_name!r:.120}"
    is_told = item.identity in ("", item.file_name)
    return name if is_told else f"{name} ({item.identity})"


def _stated_size(item: ImageItem) -> tuple[int, int] | None:
    if item.width is None or item.height is None:
        return None
    for name, value in (("height", item.height), ("width", item.width)):
        if not is_length(value):
            raise fault(
                "E104",
                f"The image {item.file_name!a:.200} has the {name} {value!r:.40}; "
                "expected a positive whole number of pixels.",
            )
    return int(item.height), int(item.width)
