"""Clicks that are not perfect: changes to extreme points, for studies of robustness.

The noise of an object is drawn from its seed and its annotation id alone, so it does
not depend on the order or the number of the other records.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

KINDS = ("none", "px", "share", "run")

_TOLERANCE = 0.02  # the part of the object's extent that ExtremeNet takes as flat
_MAX_DRAWS = 100  # then the object is too thin to keep an extent


@dataclass(frozen=True)
class ClickNoise:
    """What to change about extreme points.

    Attributes:
        kind: "none"; "px", a Gaussian of `amount` pixels along each axis; "share", a
            Gaussian of `amount` times the object's width along x and its height along
            y; "run", another point of the nearly flat run of a side than its middle,
            for the part `amount` of all points.
        amount: 0 changes nothing.
        seed: Another seed gives another draw.
    """

    kind: str = "none"
    amount: int | float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ValueError: An unknown kind, or a number that makes no sense for it.
        """
        if self.kind not in KINDS:
            raise ValueError(
                f"The kind of click noise is {self.kind!r}; choose one of "
                f"{', '.join(KINDS)}."
            )
        if not math.isfinite(self.amount) or self.amount < 0:
            raise ValueError(
                f"The amount of click noise is {self.amount}; expected a finite "
                "number that is not negative."
            )
        if self.kind == "run" and self.amount > 1:
            raise ValueError(
                f"The amount of click noise is {self.amount}; for the kind 'run' it is "
                "the part of the points that leave the middle, 0 to 1."
            )

    @property
    def is_active(self) -> bool:
        """Whether it changes anything."""
        return self.kind != "none" and self.amount > 0


def generator(noise: ClickNoise, annotation_id: int | str) -> np.random.Generator:
    """The source of an object's noise; 7 and "7" are different ids."""
    name = f"{noise.seed} {annotation_id!r}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(name, digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def jittered_points(
    points: np.ndarray,
    size: tuple[int, int],
    noise: ClickNoise,
    rng: np.random.Generator,
) -> np.ndarray:
    """Moves every point by a Gaussian, independently along x and y.

    Args:
        points: `[4, 2]`, (x, y) in the image, order top, left, bottom, right.
        size: (height, width) of the image, px.
        noise: Of the kind "px" or "share".
        rng: Drawn from.

    Returns:
        float64 `[4, 2]`, same order, inside the image, rounded to 2 decimals. A draw
        without an extent in x or y is drawn again; where none has one, as in an image
        of one column, the points come back as they are.
    """
    points = np.asarray(points, np.float64)
    sides = np.ptp(points, axis=0) + 1 if noise.kind == "share" else np.ones(2)
    draw = lambda: points + noise.amount * sides * rng.standard_normal((4, 2))
    return drawn_inside(draw, points, size)


def drawn_inside(
    draw: Callable[[], np.ndarray], points: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """The first draw that has an extent in x and y once it lies in the image.

    Args:
        draw: Gives four points, another time others.
        points: What to return if no draw has an extent.
        size: (height, width) of the image, px.

    Returns:
        float64 `[4, 2]`, (x, y) inside the image, rounded to 2 decimals.
    """
    last = np.array(size[::-1], np.float64) - 1
    for _ in range(_MAX_DRAWS):
        drawn = np.clip(np.round(draw(), 2), 0.0, last)
        if np.ptp(drawn, axis=0).min() > 0:
            return drawn
    return np.asarray(points, np.float64)


def point_on_run(
    vertices: Sequence[tuple[int | float, int | float]],
    joined: Sequence[bool],
    rng: np.random.Generator,
) -> tuple[float, float]:
    """A point drawn uniformly by length from the outline through a run of vertices.

    Args:
        vertices: (x, y), in the order of the outline; at least one.
        joined: For each vertex but the last, whether the outline leads to the next one;
            it does not from the end of one polygon to the start of another.
        rng: Drawn from.

    Returns:
        (x, y); the first vertex if the run has no length.
    """
    outline = np.asarray(vertices, np.float64)
    steps = np.diff(outline, axis=0)
    lengths = np.hypot(steps[:, 0], steps[:, 1]) * np.asarray(joined, np.float64)
    ends = np.cumsum(lengths)
    place = rng.random() * (ends[-1] if ends.size else 0.0)
    if not place:
        return float(outline[0, 0]), float(outline[0, 1])
    step = int(np.searchsorted(ends, place))
    part = 1 - (ends[step] - place) / lengths[step]
    x, y = outline[step] + part * steps[step]
    return float(x), float(y)


def point_in_band(
    mask: np.ndarray, side: int, start: Sequence[int], rng: np.random.Generator
) -> tuple[int, int]:
    """A pixel drawn uniformly from the band of a mask along one of its sides.

    The band is what lies within 2 % of the object's extent from its outermost row or
    column and is connected in it, corners included, to the point in its middle.

    Args:
        mask: bool `[height, width]`, not empty.
        side: 0 to 3 for top, left, bottom, right.
        start: (x, y) of a pixel of the mask in that outermost row or column.
        rng: Drawn from.

    Returns:
        (x, y).
    """
    axis = 1 - side % 2  # of (x, y), across the side
    lines = mask if axis == 1 else mask.T
    occupied = np.flatnonzero(lines.any(axis=1))
    low, high = int(occupied[0]), int(occupied[-1])
    depth = math.floor(_TOLERANCE * (high - low + 1))
    first = low if side < 2 else high - depth
    band = np.ascontiguousarray(lines[first : first + depth + 1], np.uint8)
    _, labels = cv2.connectedComponents(band, connectivity=8)
    label = labels[start[axis] - first, start[1 - axis]]
    across, along = np.nonzero(labels == label)
    chosen = int(rng.integers(across.size))
    line, place = int(across[chosen]) + first, int(along[chosen])
    return (place, line) if axis == 1 else (line, place)
