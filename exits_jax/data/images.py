"""Image files to RGB pixels, and a check that says what is wrong with a file.

Pillow (libjpeg-turbo) reads every format: it decodes plain JPEGs within 1.25 times the
speed of the fastest alternative tried, notices truncation, knows Adobe's inverted CMYK
and tolerates the stray bytes that a few photographs of COCO carry.
"""

import io
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image


class ImageError(ValueError):
    """A file that is not a whole image; the message names the file and the fault."""


def read_image(path: str | Path) -> np.ndarray:
    """Reads an image file as RGB, uint8 `[height, width, 3]`.

    Grey, bilevel, CMYK and palette images are converted; alpha is dropped, not blended;
    16-bit grey values keep their high byte; of an animation the first frame is taken.
    EXIF orientation is ignored, as in COCO, whose annotations refer to the pixels as
    they are stored (TIFF is the exception: its orientation tag is part of the format
    and is applied).

    Args:
      path: the image file.

    Returns:
      Pixels, origin at the top left.

    Raises:
      FileNotFoundError: there is no such file.
      ImageError: the file is empty, not an image, truncated, or claims more pixels than
        Pillow's limit on decompression bombs (about 179 million).
    """
    # The file is read at once, so that faults of the storage stay OSErrors and only
    # faults of the content become ImageErrors.
    return _decode(io.BytesIO(_existing(path).read_bytes()), path)


def check_image(path: str | Path, *, full: bool) -> tuple[int, int]:
    """Checks an image file and returns its (height, width) in pixels.

    Args:
      path: the image file.
      full: decode all pixels, which finds truncation; otherwise only the header is
        read.

    Returns:
      (height, width) as `read_image` would give them.

    Raises:
      FileNotFoundError: there is no such file.
      ImageError: as in `read_image`.
    """
    if full:
        height, width, _ = read_image(path).shape
        return height, width
    with _existing(path).open("rb") as file, _open(file, path) as image:
        return image.height, image.width


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"Image file {path} does not exist.")
    if not path.is_file():
        raise ImageError(f"{path} is not a regular file; expected an image file.")
    return path


def _open(file: io.BytesIO | io.BufferedReader, path: str | Path) -> Image.Image:
    """Reads the header only; pixels are decoded later."""
    try:
        with warnings.catch_warnings():
            # Between one and two times the limit Pillow only warns; panoramas of that
            # size are legitimate. Beyond it raises, before any pixel is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(file)
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{path} claims more pixels than an image may have: {error} "
            "Its pixels were not decoded."
        ) from error
    except Exception as error:
        raise _fault(file, path, error) from error


def _decode(file: io.BytesIO | io.BufferedReader, path: str | Path) -> np.ndarray:
    with _open(file, path) as image:
        try:
            image.load()
            return _to_rgb(image, path)
        except ImageError:
            raise
        except Exception as error:  # decoders meet broken bytes with many types
            raise ImageError(
                f"{path} is a damaged or truncated {image.format} file: {error}. "
                "Expected a whole image; fetch or export it again."
            ) from error


def _to_rgb(image: Image.Image, path: str | Path) -> np.ndarray:
    if image.mode.startswith("I"):  # "I;16" and its byte orders; "I" is 32 bits
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ImageError(
                f"{path} has pixel values from {values.min()} to {values.max()}; "
                "expected 8 or 16 bits per channel."
            )
        grey = (values >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        raise ImageError(
            f"{path} has floating point pixels, whose scale is unknown; "
            "expected 8 or 16 bits per channel."
        )
    if image.mode != "RGB":
        if "transparency" in image.info or image.mode == "RGBa":
            image = image.convert("RGBA")
        image = image.convert("RGB")
    return np.array(image)


def _fault(
    file: io.BytesIO | io.BufferedReader, path: str | Path, error: Exception
) -> Exception:
    """Says what a file without a readable header is instead."""
    if isinstance(error, OSError) and error.errno is not None:
        return error  # the storage failed, not the content
    file.seek(0, os.SEEK_END)
    size = file.tell()
    if size == 0:
        return ImageError(f"{path} is empty (0 bytes); expected an image file.")
    file.seek(0)
    start = file.read(16)
    return ImageError(
        f"{path} is not an image that Pillow can read: its {size} bytes start with "
        f"{start!r}. Expected JPEG, PNG or another image format."
    )
