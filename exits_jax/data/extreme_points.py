"""True masks to extreme points: top, left, bottom, right, (x, y) in image pixels.

Two rules. "extremenet" is the published one of ExtremeNet (Zhou et al., CVPR 2019),
whose files the paper trains on (Section 4.1); its points come from polygon vertices
and may lie just off the object. "clean" takes pixels of the mask itself.
"""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from exits_jax.data.annotations import (
    AnnotationError,
    Problem,
    check_source,
    fault,
    is_id,
)

MODES = ("extremenet", "clean")

_TOLERANCE = 0.02  # ExtremeNet: an edge of about 3 degrees still counts as flat
_MAX_PIXELS = 2**28  # above Pillow's own limit on images
_CHARS_PER_COUNT = 7  # base-32 digits of a run length below 2**32, with its sign


def prepare_annotations(
    source: dict, *, mode: str, name: str
) -> tuple[dict, list[Problem]]:
    """Replaces the masks of an instances JSON by extreme points.

    Every record with a mask and without points gets `extreme_points`; every
    `segmentation` is removed; all else is kept. Crowds get no points. A record whose
    mask is faulty is reported and keeps its box; without a box (or points) it is left
    out. Every input record is thus in the output, in the problems, or in both.

    Args:
      source: a parsed COCO instances JSON; not changed.
      mode: "extremenet" or "clean".
      name: what to call the source in messages, usually its file.

    Returns:
      The new JSON and the problems found.

    Raises:
      ValueError: `mode` is not one of the choices.
      AnnotationError: the source is not an instances JSON.
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; choose one of {', '.join(MODES)}.")
    check_source(source, name)
    images = {image["id"]: image for image in source["images"]}
    records: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for position, record in enumerate(source["annotations"]):
        if not isinstance(record, dict):
            message = f"{name}: entry {position} of `annotations` is not an object."
            problems.append(Problem(None, "E102", message))
            continue
        bare = {key: value for key, value in record.items() if key != "segmentation"}
        usable = bare.get("bbox") is not None or bool(bare.get("extreme_points"))
        try:
            points = _record_points(record, images, mode)
            if points is not None:
                bare["extreme_points"] = points.astype(int).tolist()
            elif not usable:
                raise fault("E207", "it has no mask, no extreme_points and no bbox")
            records.append(bare)
        except AnnotationError as error:
            _, code, message = error.problems[0]
            fate = "It keeps only its box." if usable else "It is left out."
            annotation_id = record.get("id")
            message = f"Annotation {annotation_id!r:.40}: {message.rstrip('.')}. {fate}"
            known_id = annotation_id if is_id(annotation_id) else None
            problems.append(Problem(known_id, code, message))
            if usable:
                records.append(bare)
    return {**source, "annotations": records}, problems


def extremenet_points(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Extreme points of a segmentation by the rule of ExtremeNet.

    The vertices of all polygons form one list (an RLE gives its pixels, row by row),
    which is extended by its last element in front and its first behind. From the
    first vertex on the extreme line of a side, the run of neighbours within 2 % of
    the object's extent is followed in both directions; the point is the middle of
    the run on the extreme line, rounded down.

    Args:
      segmentation: COCO polygons, or an RLE with counts as a list or a string.
      height: height of the image, px.
      width: width of the image, px.

    Returns:
      float32 `[4, 2]`, whole (x, y) inside the image, order top, left, bottom, right.

    Raises:
      AnnotationError: the segmentation is malformed (E211, E212) or leaves no pixel
        in the image (E213).
    """
    if isinstance(segmentation, dict):
        rows, columns = np.nonzero(decode_mask(segmentation, height, width))
        vertices = np.stack([columns, rows], axis=1)
    else:
        polygons = _check_polygons(segmentation, height, width)
        vertices = np.concatenate(polygons).reshape(-1, 2)
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    if low[0] >= width or low[1] >= height or high[0] < 0 or high[1] < 0:
        raise fault("E213", f"its mask lies outside its {width}x{height} image.")
    slack = _TOLERANCE * (high - low + 1)
    ring = np.concatenate([vertices[-1:], vertices, vertices[:1]])
    x, y = ring[:, 0], ring[:, 1]
    points = np.array(
        [
            (_middle_of_run(x, y - low[1], slack[1]), low[1]),
            (low[0], _middle_of_run(y, x - low[0], slack[0])),
            (_middle_of_run(x, high[1] - y, slack[1]), high[1]),
            (high[0], _middle_of_run(y, high[0] - x, slack[0])),
        ]
    )
    # Truncation first: polygons may touch the far border, where x == width.
    return np.clip(np.trunc(points), 0, (width - 1, height - 1)).astype(np.float32)


def clean_points(mask: np.ndarray) -> np.ndarray:
    """Extreme points that are pixels of the mask.

    Of the pixels in the outermost row or column, the one nearest to their middle; of
    two equally near ones, the upper or left one.

    Args:
      mask: bool `[height, width]`.

    Returns:
      float32 `[4, 2]`, (x, y), order top, left, bottom, right.

    Raises:
      AnnotationError: the mask is empty (E213).
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        raise fault("E213", "its mask is empty; expected at least one pixel.")
    top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
    return np.array(
        [
            (_most_central(mask[top]), top),
            (left, _most_central(mask[:, left])),
            (_most_central(mask[bottom]), bottom),
            (right, _most_central(mask[:, right])),
        ],
        np.float32,
    )


def decode_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Decodes a COCO segmentation, after checking it, as bool `[height, width]`.

    Args:
      segmentation: a list of polygons [x1, y1, x2, y2, ...], or an RLE dict whose
        counts are a list (uncompressed) or a string (compressed).
      height: height of the image, px.
      width: width of the image, px.

    Returns:
      The mask; several polygons are united, as in COCO.

    Raises:
      AnnotationError: a malformed RLE or one for another size (E211), a malformed
        polygon (E212), a mask without a pixel (E213), an absurd image size (E114).
    """
    if height * width > _MAX_PIXELS:
        raise fault("E114", f"a {width}x{height} image is too large to decode a mask.")
    if isinstance(segmentation, dict):
        mask = _decode_rle(segmentation, height, width)
    else:
        polygons = _check_polygons(segmentation, height, width)
        runs = coco_mask.frPyObjects([p.tolist() for p in polygons], height, width)
        mask = _decode_rle(dict(coco_mask.merge(runs)), height, width)
    if not mask.any():
        raise fault("E213", "its mask is empty; expected at least one pixel.")
    return mask


def _record_points(
    record: dict[str, Any], images: dict[int | str, dict[str, Any]], mode: str
) -> np.ndarray | None:
    segmentation = record.get("segmentation")
    if record.get("iscrowd") == 1 or record.get("extreme_points") or not segmentation:
        return None
    image_id = record.get("image_id")
    if not is_id(image_id) or image_id not in images:
        raise fault("E107", f"image_id {image_id!r:.40} is not among the images.")
    height, width = images[image_id].get("height"), images[image_id].get("width")
    if type(height) is not int or type(width) is not int or min(height, width) < 1:
        raise fault(
            "W109",
            f"image {image_id!r} has the height {height!r:.40} and the width "
            f"{width!r:.40}; its mask needs both in pixels.",
        )
    if mode == "extremenet":
        return extremenet_points(segmentation, height, width)
    return clean_points(decode_mask(segmentation, height, width))


def _middle_of_run(along: np.ndarray, depth: np.ndarray, slack: float) -> float:
    """The middle, rounded down, of the run around the first vertex of depth 0."""
    first = int(np.argmin(depth))
    outside = np.flatnonzero(depth > slack)
    place = int(np.searchsorted(outside, first))
    start = outside[place - 1] + 1 if place else 0
    stop = outside[place] if place < outside.size else along.size
    run = along[start:stop]
    return float((run.max() + run.min()) // 2)


def _most_central(line: np.ndarray) -> int:
    pixels = np.flatnonzero(line)
    return int(pixels[np.argmin(np.abs(2 * pixels - pixels[0] - pixels[-1]))])


def _check_polygons(polygons: Any, height: int, width: int) -> list[np.ndarray]:
    """Polygons as float64 `[2 * vertices]`, safe to hand to compiled code."""
    if not isinstance(polygons, list) or not polygons:
        raise fault(
            "E212",
            f"its segmentation is {polygons!r:.60}; expected polygons or an RLE.",
        )
    checked = []
    for number, polygon in enumerate(polygons, start=1):
        where = f"polygon {number} of {len(polygons)} in its segmentation"
        if not isinstance(polygon, list):
            raise fault(
                "E212", f"{where} is {polygon!r:.40}; expected [x1, y1, x2, y2, ...]."
            )
        if len(polygon) % 2 or len(polygon) < 6:
            raise fault(
                "E212",
                f"{where} has {len(polygon)} numbers; expected x, y of at least 3 "
                "vertices.",
            )
        if not all(type(value) in (int, float) for value in polygon):
            raise fault("E212", f"{where} holds something that is not a number.")
        # Rasterising costs time and memory by the length of the outline.
        reach = 2 * max(height, width)
        if not all(-reach < value < 2 * reach for value in polygon):
            raise fault(
                "E212",
                f"{where} has a vertex that is not finite or far outside its "
                f"{width}x{height} image.",
            )
        checked.append(np.array(polygon, np.float64))
    return checked


def _decode_rle(rle: dict[str, Any], height: int, width: int) -> np.ndarray:
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
    values = np.arange(len(runs)) % 2 == 1  # runs alternate, background first
    return np.repeat(values, runs).reshape(width, height).T  # columns first


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
