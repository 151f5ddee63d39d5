"""The images of an import: each looked for once, numbered, its size known."""

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exits_jax.data.annotations import safe_path
from exits_jax.data.image_folder import FolderAdvice, advise_on_folder
from exits_jax.data.images import ImageError, check_image
from exits_jax.data.records import MAX_NUMBER, AnnotationError, StoredImage, fault
from exits_jax.importers.items import ImageItem


class ImageTable:
    """Numbers from 1 and sizes by file name; small, as there may be millions."""

    def __init__(self, folder: str | Path, *, follow_links: bool = False):
        self._folder, self._follow_links = str(folder), follow_links
        self._numbers: dict[str, int] = {}
        self._sizes = array("q")  # height, width of image 1, of image 2, ...
        self._faults: dict[str, tuple[str, str]] = {}

    def __len__(self) -> int:
        """How many images were found."""
        return len(self._numbers)

    def find(self, item: ImageItem) -> tuple[int, StoredImage]:
        """The number and the size of an image.

        The size is what the source says, or else what the file's header says. The
        file has to be there in either case.

        Raises:
          AnnotationError: the name leads out of the folder (E112), the file is missing
            (E111), cannot be read (E113) or is too large (E114), the stated size makes
            no sense (E104) or is not the one known before (E110).
        """
        name = item.file_name
        if name in self._faults:
            raise fault(*self._faults[name])
        stated = _stated_size(item)
        number = self._numbers.get(name)
        if number is None:
            size = self._look_up(name, stated)
            number = self._numbers[name] = len(self._numbers) + 1
            self._sizes.extend(size)
        size = self._sizes[2 * number - 2], self._sizes[2 * number - 1]
        if stated not in (None, size):
            raise fault(
                "E110",
                f"The image {name!a:.200} is said to be {item.width}x{item.height} px "
                f"here, but {size[1]}x{size[0]} elsewhere.",
            )
        return number, StoredImage(name, size, ())

    def records(self) -> Iterator[dict[str, Any]]:
        """Entries of `images`, in the order of their numbers."""
        for name, number in self._numbers.items():
            height, width = self._sizes[2 * number - 2 : 2 * number]
            yield {"id": number, "file_name": name, "width": width, "height": height}

    def advice(self) -> FolderAdvice:
        """Where the images are, if they are not all in their folder."""
        missing = [name for name, (code, _) in self._faults.items() if code == "E111"]
        names = [*self._numbers, *missing]
        return advise_on_folder(names, self._folder, field="data.images")

    def _look_up(self, name: str, stated: tuple[int, int] | None) -> tuple[int, int]:
        try:
            path = safe_path(name, self._folder, follow_links=self._follow_links)
            return stated or check_image(path, full=False)
        except AnnotationError as error:
            problem = error.problems[0]
            found = problem.code, f"The image has {problem.message}"
        except FileNotFoundError:
            found = "E111", f"The image {name!a:.200} is missing in {self._folder}."
        except ImageError as error:
            found = error.code, f"The image gives no size: {error}"
        except OSError as error:
            found = "E113", f"The image {name!a:.200} gives no size: {error.strerror}."
        self._faults[name] = found
        raise fault(*found)


def _stated_size(item: ImageItem) -> tuple[int, int] | None:
    if item.width is None or item.height is None:
        return None
    for name, value in (("height", item.height), ("width", item.width)):
        if type(value) is not int or not 0 < value < MAX_NUMBER:
            raise fault(
                "E104",
                f"The image {item.file_name!a:.200} has the {name} {value!r:.40}; "
                "expected a positive whole number of pixels.",
            )
    return item.height, item.width
