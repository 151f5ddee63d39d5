"""What exporters are given: the objects of each image, decoded when asked for."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np


class MaskObject(NamedTuple):
    """One object and its mask, which covers no more than its own box."""

    annotation_id: int | str
    category: int  # index in `MaskSource.categories`
    mask: np.ndarray  # bool [height, width] of the object's box
    left: int  # column of the image that the mask's first column is
    top: int  # row of the image that the mask's first row is
    score: float | None
    is_crowd: bool


class ImageMasks(NamedTuple):
    """An image with its objects, in the order of the file."""

    image_id: int | str
    file_name: str  # relative; never leads out of its folder
    width: int
    height: int
    objects: list[MaskObject]


@runtime_checkable
class MaskSource(Protocol):
    """A file of masks, of which no more than one image is decoded at a time.

    What cannot be used goes to the report while the file is walked through, so one
    walk is made per export.
    """

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def categories(self) -> Sequence[str]:
        """Names of the classes, each different; their order is that of the indices."""
        ...

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the masks come from, `info.exits_jax` of the file."""
        ...

    def images(self) -> Iterator[ImageMasks]:
        """Every image of the file, with or without objects."""
        ...

    def fields(self) -> dict[str, Any]:
        """The file's own fields, without `images` and `annotations`."""
        ...

    def image_records(self) -> Iterable[dict[str, Any]]:
        """The entries of `images`, as they are."""
        ...

    def records(self) -> Iterator[dict[str, Any]]:
        """The annotations that are exported, with all their fields, in file order."""
        ...

    def mask_of(self, record: dict[str, Any]) -> MaskObject | None:
        """The mask of a record; None, and a word in the report, if it has none."""
        ...


class Options(NamedTuple):
    """What a person chooses about an export."""

    void_border_px: int = 0  # VOC: half width of the border around objects
    tolerance_px: float = 0.0  # of outlines; 0: exact
    image_prefix: str = ""  # Label Studio: in front of every file name
    images: Path | None = None  # image folder, to be referred to; None: not known
    out: Path | None = None  # where the export will lie; None: where it is written
