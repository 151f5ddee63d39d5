"""What a batch of crops holds, on the host and on the devices: the table of its fields.

Axes: `*b` rows of the batch, none for a single sample; `c` side of a crop, px; `n`
patches along a side of a crop; `m` cells along a side of a mask; `t` weights of a blur.
Coordinates are (x, y), boxes xyxy, both in px of the crop with (0, 0) at the outer
corner of its first pixel. A crop stretches a part of the image, its window, to a
square (Sec. 4.1).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypedDict, cast

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8, UInt32


class Batch(TypedDict, total=False):
    """Arrays of NumPy or JAX. Which fields are there depends on what made the batch."""

    # Every crop.
    image: UInt8[Any, "*b c c 3"]  # RGB, clean
    extreme_points: Float32[Any, "*b 4 2"]  # top, left, bottom, right; zeros: none
    has_points: Bool[Any, "*b"]  # False: annotated by its box alone
    box: Float32[Any, "*b 4"]  # annotated box
    valid_region: Float32[Any, "*b 4"]  # the part of the crop that shows image
    box_area: Float32[Any, "*b"]  # of the box in the image, px squared
    window: Int32[Any, "*b 4"]  # xyxy px of the image that the crop shows, see `Window`
    seed: UInt32[Any, "*b"]  # of what is drawn on the device
    index: Int32[Any, "*b"]  # number of the object; -1 fills up a last batch
    valid: Bool[Any, "*b"]  # False: a row to leave out, as its image is unreadable

    # Training: the student's view, or what the device makes it from.
    student_image: UInt8[Any, "*b c c 3"]
    jitter_order: Int32[Any, "*b 4"]  # see `data/augment.py: change_arrays`
    jitter_amounts: Float32[Any, "*b 4"]
    is_grey: Bool[Any, "*b"]
    blur_kernel: Float32[Any, "*b t"]  # weights from the centre outwards, 1/256

    # Training on stored labels: maps of another crop of the object, probability x 255.
    stored_walk: UInt8[Any, "*b n n"]
    stored_mask: UInt8[Any, "*b m m"]
    label_region: Float32[Any, "*b 4"]  # where their crop lies in this one

    # Supervision, added on the device by `train/step.py`.
    target: Float32[Any, "*b n n"]  # 1: a point of the object, Eq. (6)
    known: Float32[Any, "*b n n"]  # 1: a point with a label, Eq. (7)
    is_empty: Bool[Any, "*b"]  # no pseudo point was found: box tightness steps in
    walk: Float32[Any, "*b n n"]  # probability of each patch by the walk
    soft_mask: Float32[Any, "*b m m"]  # probability of each cell
    is_labeled: Bool[Any, "*b"]  # `soft_mask` holds something


def map_fields(
    change: Callable[[Any], Any], batch: Batch, names: Iterable[str] | None = None
) -> Batch:
    """A batch of changed arrays.

    Args:
        change: From an array of the batch to one of the result.
        batch: Left as it is.
        names: The fields to take; None takes all.

    Raises:
        KeyError: If a field is not there.
    """
    arrays = cast(dict[str, Any], batch)
    return cast(Batch, {name: change(arrays[name]) for name in names or arrays})


def stack(samples: Sequence[Batch], names: Iterable[str] | None = None) -> Batch:
    """Samples as the rows of a NumPy batch; with `names`, these of their fields."""
    rows = [map_fields(np.asarray, sample, names) for sample in samples]
    return cast(
        Batch, {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    )


def num_rows(batch: Batch) -> int:
    """How many rows a batch has."""
    return len(next(iter(cast(dict[str, Any], batch).values())))
