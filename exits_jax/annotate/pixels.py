"""Pixels of the images: for the model as arrays, for the page as files it shows alike.

Browsers turn a picture by its EXIF orientation, blend alpha and differ on 16 bits; the
pixels that count are those of `read_image`. So a file goes out as it is only where no
browser can see anything else in it.
"""

import io
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from exits_jax.data.images import ImageError, image_remarks, read_image

_MAX_CACHED = 512 * 2**20  # bytes of decoded images
_MIN_KEPT = 2  # this image and the next, however large
_AS_THEY_ARE = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_PLAIN_MODES = ("RGB", "L", "P", "1")


class Payload(NamedTuple):
    """An image file for the page."""

    data: bytes
    kind: str  # media type


class Pixels:
    """Decoded images, the latest kept; threads may share it."""

    def __init__(self, folder: Path, names: list[str]):
        """Takes the files by their place in a list."""
        self._folder, self._names = folder, names
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self._ahead = ThreadPoolExecutor(1, "read-ahead")

    def array(self, place: int) -> np.ndarray:
        """The pixels of an image, uint8 [height, width, 3].

        Raises:
            FileNotFoundError: If the file is gone.
            ImageError: If it is no whole image.
        """
        with self._lock:
            if place in self._kept:
                self._kept.move_to_end(place)
                return self._kept[place]
        pixels = read_image(self.path(place))
        with self._lock:
            self._kept[place] = pixels
            self._kept.move_to_end(place)
            while len(self._kept) > _MIN_KEPT and self._size() > _MAX_CACHED:
                self._kept.popitem(last=False)
        return pixels

    def read_ahead(self, place: int) -> None:
        """Begins to decode an image that will be wanted soon."""
        self._ahead.submit(self._quietly, place)

    def path(self, place: int) -> Path:
        """The file of an image."""
        return self._folder / self._names[place]

    def tag(self, place: int) -> str:
        """Changes when the file does."""
        stat = self.path(place).stat()
        return f'"{place}-{stat.st_mtime_ns:x}-{stat.st_size:x}"'

    def payload(self, place: int) -> Payload:
        """The image as a file in which a browser sees the same pixels.

        Raises:
            FileNotFoundError: If the file is gone.
            ImageError: If it is no whole image.
        """
        path = self.path(place)
        kind = _kind_as_it_is(path)
        if kind is not None:
            return Payload(path.read_bytes(), kind)
        packed = io.BytesIO()
        Image.fromarray(self.array(place)).save(packed, "PNG", compress_level=1)
        return Payload(packed.getvalue(), "image/png")

    def _size(self) -> int:
        return sum(each.nbytes for each in self._kept.values())

    def _quietly(self, place: int) -> None:
        try:
            self.array(place)
        except (ImageError, OSError):
            pass  # it is said when the image is asked for

    def close(self) -> None:
        """Ends what is still read ahead."""
        self._ahead.shutdown(wait=False, cancel_futures=True)


def _kind_as_it_is(path: Path) -> str | None:
    """The media type of a file that any browser shows as it is read; else None."""
    if image_remarks(path):
        return None
    try:
        with Image.open(path, formats=tuple(_AS_THEY_ARE)) as image:
            # The colours of a profile would look other than they are read.
            if image.mode not in _PLAIN_MODES or "icc_profile" in image.info:
                return None
            return _AS_THEY_ARE[str(image.format)]
    except OSError:  # another format
        return None
