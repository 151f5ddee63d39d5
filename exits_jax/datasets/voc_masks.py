"""Masks of PASCAL VOC: palette PNGs whose indices number instances and classes."""

import struct
from pathlib import Path

import numpy as np
from PIL import Image

from exits_jax.data.records import AnnotationError, fault
from exits_jax.datasets.sbd import NUM_CLASSES, Classes

_VOID = 255  # the border that VOC leaves undecided
_PNG_START = b"\x89PNG\r\n\x1a\n"


def read_voc_masks(
    object_png: str | Path, class_png: str | Path, size: tuple[int, int]
) -> tuple[np.ndarray, Classes]:
    """Reads the instances of one image from the PNGs of VOC.

    Palette indices are read as they are, colours never. The void border belongs to no
    instance; the class of an instance is the one that most of its pixels have, of
    equally frequent ones the first, without counting void and background.

    Args:
        object_png: The file of SegmentationObject.
        class_png: The file of SegmentationClass.
        size: (height, width) of the image, px.

    Returns:
        Instance numbers, uint8 `[height, width]`, 0 for background and void; and for
        every instance its class from 1 to 20, or what is wrong with it.

    Raises:
        FileNotFoundError: A file does not exist.
        AnnotationError: A file is not a palette PNG (E113) or has another size (E110).
    """
    numbers, labels = _read_indices(object_png, size), _read_indices(class_png, size)
    pairs = numbers.astype(np.intp) * 256 + labels
    votes = np.bincount(pairs.ravel(), minlength=2**16).reshape(256, 256)
    found = np.flatnonzero(votes.sum(axis=1))
    votes[:, [0, _VOID]] = 0
    classes: Classes = {}
    for number in map(int, found[(found > 0) & (found < _VOID)]):
        category = int(votes[number].argmax())
        if not votes[number, category]:
            classes[number] = fault("E213", "all its pixels are void or background.")
        elif category > NUM_CLASSES:
            classes[number] = fault(
                "E108", f"its class is {category}; expected 1 to {NUM_CLASSES}."
            )
        else:
            classes[number] = category
    return np.where(numbers == _VOID, np.uint8(0), numbers), classes


def other_size(
    name: str, found: tuple[int, ...], size: tuple[int, int]
) -> AnnotationError:
    """The fault of masks that do not fit their image; sizes are (height, width)."""
    return fault(
        "E110",
        f"{name} is {found[1]}x{found[0]} px, but its image {size[1]}x{size[0]}.",
    )


def _read_indices(path: str | Path, size: tuple[int, int]) -> np.ndarray:
    with open(path, "rb") as file:
        start = file.read(24)
        if len(start) < 24 or not start.startswith(_PNG_START):
            raise fault("E113", f"{path} is not a PNG.")
        width, height = struct.unpack(">II", start[16:])
        if (height, width) != size:  # before anything of that size is decoded
            raise other_size(str(path), (height, width), size)
        file.seek(0)
        try:
            with Image.open(file, formats=("PNG",)) as image:
                mode, indices = image.mode, np.asarray(image)
        except Exception as error:  # decoders meet broken bytes with many types
            raise fault(
                "E113", f"{path} is a damaged or truncated PNG: {error}."
            ) from error
    if mode not in ("P", "L"):
        raise fault(
            "E113",
            f"{path} has the mode {mode}; expected palette indices. Was it saved anew "
            "as colours?",
        )
    return indices
