"""Segmentations of COCO files to masks, checked before any compiled code sees them."""

import math
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from exits_jax.data.records import fault

_MAX_PIXELS = 2**28  # above Pillow's own limit on images
# Rasterising takes some 100 bytes for each pixel of an outline. No mask needs more than
# one around each pixel; small ones may be drawn finely, above the last nobody draws.
_SIDES, _MIN_OUTLINE_PX, _MAX_OUTLINE_PX = 4, 2**16, 2**21
_MERGED_AT_ONCE = 16
_CHARS_PER_COUNT = 7  # base-32 digits of a run length below 2**32, with its sign
_NUMBERS = frozenset((int, float))  # types; a bool is none


def decode_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Decodes a COCO segmentation, after checking it, as bool `[height, width]`.

    Args:
        segmentation: A list of polygons [x1, y1, x2, y2, ...], or an RLE dict whose
            counts are a list (uncompressed) or a string (compressed).
        height: Height of the image, px.
        width: Width of the image, px.

    Returns:
        The mask; several polygons are united, as in COCO.

    Raises:
        AnnotationError: A malformed RLE or one for another size (E211), a malformed
            polygon (E212), a mask without a pixel (E213), an absurd image size (E114).
    """
    if height * width > _MAX_PIXELS:
        raise fault("E114", f"a {width}x{height} image is too large to decode a mask.")
    if isinstance(segmentation, dict):
        mask = _decode_rle(segmentation, height, width)
    else:
        mask = _decode_rle(polygon_rle(segmentation, height, width), height, width)
    if not mask.any():
        raise fault("E213", "its mask is empty; expected at least one pixel.")
    return mask


def polygon_rle(polygons: Any, height: int, width: int) -> dict[str, Any]:
    """The union of polygons as a compressed RLE.

    Args:
        polygons: A list of [x1, y1, x2, y2, ...].
        height: Height of the image, px.
        width: Width of the image, px.

    Raises:
        AnnotationError: As `check_polygons`.
    """
    check_polygons(polygons, height, width)
    runs: Any = coco_mask.frPyObjects(polygons, height, width)
    while len(runs) > 1:  # all in one call takes the square of their number
        starts = range(0, len(runs), _MERGED_AT_ONCE)
        runs = [coco_mask.merge(runs[k : k + _MERGED_AT_ONCE]) for k in starts]
    return dict(runs[0])


def check_polygons(polygons: Any, height: int, width: int) -> None:
    """Checks that polygons are safe to hand to compiled code.

    Called for every polygon of files with a million records, so the checks of a sound
    one are few calls on whole lists.

    Args:
        polygons: What a record has as its segmentation, if it is no RLE.
        height: Height of the image, px.
        width: Width of the image, px.

    Raises:
        AnnotationError: They are no list of polygons [x1, y1, x2, y2, ...] of at least
            three vertices near the image, or longer than its pixels can need (E212).
    """
    if not isinstance(polygons, list) or not polygons:
        raise fault(
            "E212",
            f"its segmentation is {polygons!r:.60}; expected polygons or an RLE.",
        )
    for number, polygon in enumerate(polygons, start=1):
        if (wrong := _polygon_fault(polygon, height, width)) is not None:
            where = f"polygon {number} of {len(polygons)} in its segmentation"
            raise fault("E212", f"{where} {wrong}")
    most = max(_SIDES * height * width, _MIN_OUTLINE_PX)
    most = min(most, _MAX_OUTLINE_PX)
    # First by the longest that so many vertices can make, hardly ever too long.
    num_vertices = sum(map(len, polygons)) // 2
    if num_vertices * 3 * _reach(height, width) <= most:
        return
    if (length := sum(map(_outline_px, polygons))) > most:
        raise fault(
            "E212",
            f"the outlines of its polygons are {length:.0f} px long; those of a mask "
            f"in a {width}x{height} image have at most {most}.",
        )


def _polygon_fault(polygon: Any, height: int, width: int) -> str | None:
    if not isinstance(polygon, list):
        return f"is {polygon!r:.40}; expected [x1, y1, x2, y2, ...]."
    if len(polygon) % 2 or len(polygon) < 6:
        return f"has {len(polygon)} numbers; expected x, y of at least 3 vertices."
    if not _NUMBERS.issuperset(map(type, polygon)):
        return "holds something that is not a number."
    # A NaN can hide from the comparisons, but not from the sum, which they keep finite.
    reach = _reach(height, width)
    near = -reach < min(polygon) and max(polygon) < 2 * reach
    if not near or not math.isfinite(sum(polygon)):
        return (
            "has a vertex that is not finite or far outside its "
            f"{width}x{height} image."
        )
    return None


def _reach(height: int, width: int) -> int:
    """How far vertices may lie beyond the top left; twice as far at the other end."""
    return 2 * max(height, width)


def _outline_px(polygon: list[int | float]) -> float:
    """Pixels along the sides of a polygon."""
    vertices = np.array(polygon, np.float64).reshape(-1, 2)
    sides = np.abs(vertices - np.roll(vertices, 1, axis=0))
    return float(sides.max(axis=1).sum())


def _decode_rle(rle: dict[str, Any], height: int, width: int) -> np.ndarray:
    runs = checked_runs(rle, height, width)
    values = np.arange(len(runs)) % 2 == 1  # runs alternate, background first
    return np.repeat(values, runs).reshape(width, height).T  # columns first


def checked_runs(rle: dict[str, Any], height: int, width: int) -> list[int]:
    """The run lengths of an RLE, once they are known to be those of an image.

    Args:
        rle: Size and counts, compressed or not.
        height: Height of the image, px.
        width: Width of the image, px.

    Raises:
        AnnotationError: A malformed RLE or one for another size (E211).
    """
    size, counts = rle.get("size"), rle.get("counts")
    if size != [height, width]:
        raise fault(
            "E211",
            f"its RLE has the size {size!r:.60}; expected [{height}, {width}], the "
            "height and width of its image.",
        )
    if isinstance(counts, str | bytes):
        runs = _uncompress(counts)
    elif isinstance(counts, list) and all(type(run) is int for run in counts):
        runs = counts
    else:
        raise fault(
            "E211",
            f"its RLE counts are {counts!r:.60}; expected a string or whole numbers.",
        )
    total = sum(runs)
    if any(run < 0 for run in runs) or total != height * width:
        raise fault(
            "E211",
            f"its RLE counts sum to {total}; expected {height * width} pixels in runs "
            "that are not negative.",
        )
    return runs


def _uncompress(counts: str | bytes) -> list[int]:
    """Run lengths of COCO's compressed string.

    Each number is a little-endian sequence of 5-bit digits, one per character from
    "0" on; bit 5 says that more follow, bit 4 of the last digit is the sign. From the
    fourth on, a number is the difference to the run two before.
    """
    data = counts.encode("utf-8", "replace") if isinstance(counts, str) else counts
    codes = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 32) == 0)
    malformed = not codes.size or codes.min() < 0 or codes.max() > 63
    if malformed or not ends.size or ends[-1] != codes.size - 1:
        raise fault("E211", f"its RLE counts {counts!r:.60} are not a whole RLE.")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _CHARS_PER_COUNT:
        raise fault("E211", f"its RLE counts {counts!r:.60} hold too long a number.")
    digit = np.arange(codes.size) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((codes & 31) << (5 * digit), starts)
    numbers -= np.where(codes[ends] & 16, 1 << (5 * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers.tolist()
