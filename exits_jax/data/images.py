"""Image files to RGB pixels, and a check that says what is wrong with a file.

Pillow (libjpeg-turbo) reads every format: it decodes plain JPEGs within 1.25 times the
speed of the fastest alternative tried, notices truncation, knows Adobe's inverted CMYK
and tolerates the stray bytes that a few photographs of COCO carry.
"""

import contextlib
import ctypes
import errno
import functools
import io
import logging
import os
import stat
import warnings
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from exits_jax.data.foreign_files import foreign_kind
from exits_jax.files.retries import retrying
from exits_jax.files.words import printable

# Formats whose readers do nothing but decode; an EPS, for one, would be executed.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
IMAGE_REMARKS = {
    "sixteen_bits": "W117",
    "alpha_dropped": "W118",
    "orientation_ignored": "W119",
    "first_frame_only": "W120",
}
_MAX_BYTES = 2**31  # an uncompressed image of the most pixels has less
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_ORIENTATION, _BITS_PER_SAMPLE = 0x0112, 258  # tags of EXIF and TIFF
_RGB_MODES = frozenset(
    ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
)


class ImageError(ValueError):
    """A file that is not a whole image; the message names the file and the fault.

    Attributes:
        code: "E114" if it is too large to decode, otherwise "E113".
    """

    def __init__(self, message: str, code: str = "E113") -> None:
        """Keeps the message for people and the code for reports."""
        super().__init__(message)
        self.code = code


def read_image(path: str | Path, *, reduced_by: int = 1) -> np.ndarray:
    """Reads an image file as RGB, uint8 `[height, width, 3]`.

    Grey, bilevel, CMYK and palette images are converted; alpha is dropped, not blended;
    16-bit values keep their high byte; of an animation the first frame is taken.
    EXIF orientation is ignored, as in COCO, whose annotations refer to the pixels as
    they are stored (TIFF is the exception: its orientation tag is part of the format
    and is applied).

    Args:
        path: The image file, of one of `FORMATS`.
        reduced_by: 1, 2, 4 or 8: both sides are divided by it, rounded up. A JPEG is
            decoded at that size, in a third of the time; others are averaged.

    Returns:
        Pixels, origin at the top left.

    Raises:
        FileNotFoundError: There is no such file.
        ImageError: The file is empty, not an image, truncated, or claims more pixels
            than Pillow's limit on decompression bombs (about 179 million).
    """
    # The file is read at once, so that faults of the storage stay OSErrors and only
    # faults of the content become ImageErrors.
    return decode_image(_existing(path).read_bytes(), path, reduced_by=reduced_by)


def decode_image(data: bytes, name: str | Path, *, reduced_by: int = 1) -> np.ndarray:
    """Decodes the bytes of an image file, as `read_image` does.

    Args:
        data: The whole file.
        name: What to call it in messages, usually its path.
        reduced_by: As in `read_image`.

    Returns:
        Pixels, uint8 `[height, width, 3]`, origin at the top left.

    Raises:
        ImageError: As in `read_image`.
    """
    return _decode(io.BytesIO(data), name, reduced_by)


def check_image(path: str | Path, *, full: bool) -> tuple[int, int]:
    """Checks an image file and returns its (height, width) in pixels.

    Args:
        path: The image file.
        full: Decode all pixels, which finds truncation; otherwise only the header is
            read.

    Returns:
        (height, width) as `read_image` would give them.

    Raises:
        FileNotFoundError: There is no such file.
        ImageError: As in `read_image`.
    """
    size_of = _size_of_pixels if full else _size_in_header
    return retrying(lambda: size_of(path))


def _size_of_pixels(path: str | Path) -> tuple[int, int]:
    height, width, _ = read_image(path).shape
    return height, width


def _size_in_header(path: str | Path) -> tuple[int, int]:
    with _existing(path).open("rb") as file, _open(file, path) as image:
        return image.height, image.width


def image_fault(
    path: str | Path, size: tuple[int, int], *, full: bool
) -> tuple[str, str] | None:
    """What is wrong with the image file that annotations refer to.

    Args:
        path: The image file.
        size: (height, width) that the annotations state.
        full: Decode all pixels, see `check_image`.

    Returns:
        A code and a message that names the file; None if all is well.
    """
    try:
        found = check_image(path, full=full)
        if found == size:
            return None
        hint = ""
        if found == size[::-1] and "orientation_ignored" in image_remarks(path):
            hint = (
                " Its EXIF orientation turns it: annotate the pixels as they are "
                "stored, or store them turned."
            )
    except ImageError as error:
        return error.code, str(error)
    except FileNotFoundError as error:
        return "E111", str(error)
    except OSError as error:
        return "E113", f"{printable(path)} cannot be read: {error.strerror}."
    return "E110", (
        f"{printable(path)} is {found[1]}x{found[0]} px, but the annotations say "
        f"{size[1]}x{size[0]}: the points are in another frame.{hint}"
    )


def image_remarks(path: str | Path) -> tuple[str, ...]:
    """What `read_image` will leave out of a file, as far as its header tells.

    Args:
        path: The image file.

    Returns:
        Keys of `IMAGE_REMARKS`.

    Raises:
        FileNotFoundError: There is no such file.
        ImageError: The header cannot be read.
    """
    with _existing(path).open("rb") as file, _open(file, path) as image:
        found = {
            "sixteen_bits": _bits(image, file) > 8,
            "alpha_dropped": image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
            or "transparency" in image.info,
            "orientation_ignored": _orientation(image) != 1,
            "first_frame_only": _has_frames(image),
        }
    return tuple(name for name in IMAGE_REMARKS if found[name])


def _existing(path: str | Path) -> Path:
    path = Path(path)
    try:
        state = os.stat(path)  # once: there may be millions
    except (OSError, ValueError) as error:
        if getattr(error, "errno", errno.ENOENT) in _GONE:
            missing = f"Image file {printable(path)} does not exist."
            raise FileNotFoundError(missing) from None
        raise
    if not stat.S_ISREG(state.st_mode):
        raise ImageError(
            f"{printable(path)} is not a regular file; expected an image file."
        )
    if state.st_size > _MAX_BYTES:
        raise ImageError(
            f"{printable(path)} has {state.st_size / 2**30:.1f} GiB; image files of at "
            f"most {_MAX_BYTES / 2**30:.0f} GiB are read.",
            "E114",
        )
    return path


def _open(file: io.BytesIO | io.BufferedReader, path: str | Path) -> Image.Image:
    """Reads the header only; pixels are decoded later."""
    try:
        with warnings.catch_warnings():
            # Between one and two times the limit Pillow only warns; panoramas of that
            # size are legitimate. Beyond it raises, before any pixel is decoded. Its
            # other warnings are of metadata that nobody asks for.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            return Image.open(file, formats=_formats())
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{printable(path)} claims more pixels than an image may have: {error} "
            "Its pixels were not decoded.",
            "E114",
        ) from error
    except Exception as error:
        raise _fault(file, path, error) from error


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow knows."""
    Image.init()
    _silence_libtiff()
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # likewise
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _silence_libtiff() -> None:
    """What the library of TIFF finds is raised by Pillow; it prints it, too."""
    for path in (Path(PIL.__file__).parent.parent / "pillow.libs").glob("libtiff*"):
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(str(path))
            library.TIFFSetErrorHandler(None)
            library.TIFFSetWarningHandler(None)


def _decode(file: io.BytesIO, path: str | Path, reduced_by: int) -> np.ndarray:
    with _open(file, path) as image:
        try:
            width = image.width
            if reduced_by > 1:  # a wish, which the reader of JPEGs alone fulfils
                wanted = (width // reduced_by, image.height // reduced_by)
                image.draft(None, (max(1, wanted[0]), max(1, wanted[1])))
            rest = reduced_by if image.width == width else 1
            image.load()
            pixels = _to_rgb(image, path)
            if rest > 1:
                pixels = np.asarray(Image.fromarray(pixels).reduce(rest))
            return pixels
        except ImageError:
            raise
        except Exception as error:  # decoders meet broken bytes with many types
            raise ImageError(
                f"{printable(path)} is a damaged or truncated {image.format} file: "
                f"{error}. Expected a whole image; fetch or export it again."
            ) from error


def _to_rgb(image: Image.Image, path: str | Path) -> np.ndarray:
    if image.mode.startswith("I"):  # "I;16" and its byte orders; "I" is 32 bits
        return _high_bytes(image, path)
    if image.mode not in _RGB_MODES:
        kind = "floating point" if image.mode == "F" else image.mode
        raise ImageError(
            f"{printable(path)} has {kind} pixels, whose scale is unknown; "
            "expected grey or colours of 8 or 16 bits per channel."
        )
    if image.mode != "RGB":
        # By way of RGBA, the colours of transparent pixels stay what they are.
        if "transparency" in image.info or image.mode == "RGBa":
            image = image.convert("RGBA")
        image = image.convert("RGB")
    return np.array(image)


def _high_bytes(image: Image.Image, path: str | Path) -> np.ndarray:
    """The upper 8 bits of grey values: a fixed scale, the same for all images."""
    values, bits = np.asarray(image), 16
    if image.format == "TIFF":
        bits = _tiff_bits(image)
    if bits > 16 or values.min() < 0 or values.max() >> bits:
        raise ImageError(
            f"{printable(path)} has pixel values from {values.min()} to "
            f"{values.max()} in {max(bits, 32)} bits; expected 8 or 16 bits per "
            "channel."
        )
    grey = (values >> (bits - 8)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _bits(image: Image.Image, file: io.BufferedReader) -> int:
    """Bits per channel that the file holds; Pillow itself reduces colours to 8."""
    if image.format == "PNG":
        file.seek(24)  # the bit depth of the header chunk
        return file.read(1)[0]
    if image.format == "TIFF":
        return _tiff_bits(image)
    return 16 if image.mode.startswith("I") else 8


def _tiff_bits(image: Image.Image) -> int:
    tags: dict[int, tuple[int, ...]] = getattr(image, "tag_v2")  # noqa: B009
    return max(tags.get(_BITS_PER_SAMPLE, (1,)))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation that is ignored, 2 to 8; 1 if there is none."""
    if image.format == "TIFF":
        return 1
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            # Not the method of the PNG reader, which decodes all pixels first.
            value = Image.Image.getexif(image).get(_ORIENTATION)
    except Exception:  # broken EXIF: then no viewer turns the image either
        return 1
    return value if isinstance(value, int) and 2 <= value <= 8 else 1


def _has_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # what follows the first frame is broken, and never read
        return False


def _fault(
    file: io.BytesIO | io.BufferedReader, path: str | Path, error: Exception
) -> Exception:
    """Says what a file without a readable header is instead."""
    if isinstance(error, OSError) and error.errno is not None:
        return error  # the storage failed, not the content
    name = printable(path)
    file.seek(0, os.SEEK_END)
    size = file.tell()
    if size == 0:
        return ImageError(f"{name} is empty (0 bytes); expected an image file.")
    file.seek(0)
    start = file.read(16)
    kind = foreign_kind(start)
    expected = f"Expected {', '.join(FORMATS)}." if kind is None else f"It is {kind}."
    return ImageError(
        f"{name} is not an image that can be read: its {size} bytes start with "
        f"{start!r}. {expected}"
    )
