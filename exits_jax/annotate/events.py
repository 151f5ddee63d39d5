"""What a page may say about an object: typed, checked, and merged into what is known.

An event carries the new values of the fields that it changes, so replaying a journal is
merging, in order, and undo is an event that carries the old values.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from exits_jax.data.geometry import POINT_SLACK_PX
from exits_jax.data.masks import checked_runs
from exits_jax.data.records import AnnotationError

MAX_SECONDS = 1e7
_Share = Annotated[float, Meta(ge=0, le=1)]
_Hex = Annotated[str, Meta(pattern="^[0-9a-f]{8,32}$")]
_Key = Annotated[str, Meta(pattern="^[0-9a-z]{1,32}$")]
Clicks = Annotated[list[tuple[float, float]], Meta(max_length=4)]  # (x, y) px
_Number = Annotated[int, Meta(ge=1, le=2**53)]
Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]+$")]

Status = Literal["open", "done", "rejected", "gone"]
By = Literal["", "model", "edited", "accepted"]
Do = Literal[
    "click",
    "move",
    "undo",
    "redo",
    "predict",
    "accept",
    "reject",
    "class",
    "paint",
    "threshold",
    "part",
    "fill",
    "delete",
    "repair",
]


class EventError(ValueError):
    """An event that says something impossible; the message says what."""


class Rle(msgspec.Struct, forbid_unknown_fields=True):
    """A mask as COCO's compressed run lengths."""

    size: tuple[int, int]  # (height, width)
    counts: Annotated[str, Meta(max_length=900_000)]


class Quality(msgspec.Struct, forbid_unknown_fields=True):
    """What is known of a mask without a true one; as `generate` writes it."""

    score: _Share
    click_hit: Annotated[list[Literal[0, 1]], Meta(max_length=4)] | None
    box_iou: _Share
    num_parts: Annotated[int, Meta(ge=0, le=10**9)]
    flags: Annotated[list[Name], Meta(max_length=20)]


class Change(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """New values of an object; what is not given stays."""

    clicks: Clicks | None | UnsetType = UNSET  # in the order they were made
    category: int | str | UnsetType = UNSET
    rle: Rle | None | UnsetType = UNSET
    quality: Quality | None | UnsetType = UNSET
    threshold: _Share | None | UnsetType = UNSET  # of this object alone
    by: By | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    seconds: Annotated[float, Meta(ge=0, le=MAX_SECONDS)] | UnsetType = UNSET


class Event(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One thing that a person did to one object."""

    client: _Hex  # of one loading of the page
    n: _Number  # counts the events of a client, from 1
    do: Do
    image: int | str
    object: _Key
    set: Change


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    """Events that are sent together, oldest first."""

    client: _Hex  # who sends; events may be of an earlier loading of the page
    events: Annotated[list[Event], Meta(max_length=500)]


class Thing(msgspec.Struct, omit_defaults=True):
    """What is known of one object."""

    key: str  # chosen by the page
    id: int | str  # of its annotation
    image: int | str
    category: int | str
    status: Status = "open"
    clicks: list[tuple[float, float]] | None = None
    rle: Rle | None = None
    quality: Quality | None = None
    threshold: float | None = None
    by: By = ""
    seconds: float = 0.0
    base: dict[str, Any] = {}  # the record that it came from, with all its fields
    unread: bool = False  # the mask of the record waits for its image

    def merge(self, change: Change) -> None:
        """Takes over what a change says."""
        for name in Change.__struct_fields__:
            if (value := getattr(change, name)) is not UNSET:
                setattr(self, name, value)


def check_event(
    event: Event, size: tuple[int, int], categories: set[int | str]
) -> None:
    """Refuses what does not fit the image or the classes.

    Args:
        event: Of the right types already.
        size: (height, width) of its image.
        categories: Ids of the classes.

    Raises:
        EventError: Says what is wrong and what is expected.
    """
    height, width = size
    change = event.set
    for x, y in change.clicks or ():
        out = max(-x, x - (width - 1), -y, y - (height - 1))
        if not out <= POINT_SLACK_PX:  # as the reader, which then clamps
            raise EventError(
                f"A click at ({x:g}, {y:g}) lies outside its {width}x{height} image."
            )
    if change.category is not UNSET and change.category not in categories:
        raise EventError(f"There is no class with the id {change.category!r:.80}.")
    if isinstance(change.rle, Rle):
        rle = {"size": list(change.rle.size), "counts": change.rle.counts}
        try:
            checked_runs(rle, height, width)
        except AnnotationError as error:
            raise EventError(f"The mask cannot be used: {error}") from None
