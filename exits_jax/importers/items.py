"""What a reader of a foreign annotation format yields, item by item.

Readers are generators: a file of millions of rows is never held as a whole. Every
record of the source becomes one `ObjectItem` or one `Rejected`, so that the counts add
up.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple


class ImageItem(NamedTuple):
    """An image that the source lists, with or without objects."""

    file_name: str  # as the source gives it, which may be a path of another machine
    width: int | None = None  # px; None where the source does not say
    height: int | None = None
    identity: str = ""  # what tells the images of the source apart; "": the name
    preferred: str = ""  # a name that comes first where there is such a file
    any_end: bool = False  # the name is a path of another machine
    is_loose: bool = False  # it is relative to a folder that the images may not have
    hint: str = ""  # what to say of it where the file is missing


class ObjectItem(NamedTuple):
    """One annotated object, its clicks in whatever order they were made."""

    image: ImageItem
    category: str
    # Four (x, y), in shares and percents of floats; None: a box alone.
    clicks: tuple[tuple[float, float], ...] | None
    box: tuple[float, float, float, float] | None  # xyxy; None: the clicks decide
    unit: str  # "px", "share" (0..1 of the image) or "percent"
    record: str  # where it stands in the source, for people: "line 7", "shape 3"
    extra: dict[str, Any] = {}  # further fields to keep, JSON values
    flags: tuple[str, ...] = ()  # what was put right, keys of `record_writer._CODES`


class Rejected(NamedTuple):
    """A record of the source that cannot become an object, and why."""

    record: str
    code: str
    message: str


Item = ImageItem | ObjectItem | Rejected
Items = Iterator[Item]
