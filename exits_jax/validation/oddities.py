"""Which records of a data set are worth a look: faulty, doubtful or of rare shape."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from exits_jax.data.geometry import Box
from exits_jax.data.image_finder import ImageFinder
from exits_jax.data.image_names import source_name
from exits_jax.data.records import AnnotationError, Problem, is_id
from exits_jax.validation.codes import CODES
from exits_jax.validation.survey import Survey, record_at

_THIN, _TINY_PX, _FILLS = 5.0, 16.0, 0.9  # ratio of sides; longer side; share of image
_HUGE_IMAGE_PX = 40e6
# Nothing about such a record looks odd.
_UNSEEN = ("W106", "W107", "W108", "W109", "W210", "W217", "W219")


class Oddity(NamedTuple):
    """A record to show, and why."""

    position: int  # place among the annotations of the file
    code: str  # of a problem or remark, or one word
    note: str


def oddities(found: Survey, folder: str) -> Iterator[Oddity]:
    """Records of all kinds by turns: first one of every kind, then a second, and so on.

    Args:
        found: The data set.
        folder: Where the images are, to be left out of notes.

    Yields:
        In each turn problems before remarks before shapes; every record once.
    """
    kinds = [
        *_by_code(found.problems + found.damaged_masks, folder).values(),
        *_remarked(found),
        *_of_rare_shape(found),
    ]
    seen: set[int] = set()
    for turn in range(max(map(len, kinds), default=0)):
        for kind in kinds:
            if turn < len(kind) and kind[turn].position not in seen:
                seen.add(kind[turn].position)
                yield kind[turn]


def drawable(
    found: Survey, position: int, folder: str, *, follow_links: bool
) -> tuple[str, np.ndarray | None, Box | None] | None:
    """What can be drawn of a record, however faulty it is.

    Args:
        found: The data set.
        position: The record's place among the annotations.
        folder: Where the images are.
        follow_links: Allow links in the folder that lead out of it.

    Returns:
        Path of its image, points [n, 2] and box (xyxy) in px as far as they are
        numbers; None if there is no image to open.
    """
    record = record_at(found.source, position)
    path = _path_of(found, record, folder, follow_links)
    if path is None:
        return None
    points = _numbers(record.get("extreme_points"))
    if points is None:
        rows = np.flatnonzero(found.instances.position == position)
        points = found.instances[int(rows[0])].extreme_points if len(rows) else None
    if points is not None:
        points = points[:, :2]
    box = _numbers([record.get("bbox")])
    if box is None or box.shape != (1, 4):
        return path, points, None
    x, y, width, height = box[0].tolist()
    return path, points, (x, y, x + width, y + height)


def _by_code(problems: Iterable[Problem], folder: str) -> dict[str, list[Oddity]]:
    kinds: dict[str, list[Oddity]] = defaultdict(list)
    for _, code, message, position in problems:
        if position is not None:
            words = message.replace(f"{folder}/", "")
            note = re.sub(r"^Annotation .{1,90}?: ", "", words)
            kinds[code].append(Oddity(position, code, note))
    return dict(sorted(kinds.items()))


def _remarked(found: Survey) -> list[list[Oddity]]:
    """The records of each remark, or the first of each image that has one."""
    instances = found.instances
    by_id: dict[Any, int] = {}
    by_path: dict[str, int] = {}
    for row, item in enumerate(instances):
        by_id[item.annotation_id] = row
        by_path.setdefault(item.image_path, row)
    kinds = []
    for code, subject, names in found.remarks:
        if code in _UNSEEN:
            continue
        known = by_path if subject == "images" else by_id
        rows = [known[name] for name in names if name in known]
        notes = {row: CODES[code] for row in rows}
        if code == "W208":
            apart = {row: _distance_px(found, row) for row in rows}
            rows.sort(key=lambda row: -apart[row])
            notes = {
                row: f"points and bbox are {apart[row]:.0f} px apart" for row in rows
            }
        position = instances.position
        kinds.append([Oddity(int(position[row]), code, notes[row]) for row in rows])
    return kinds


def _distance_px(found: Survey, row: int) -> float:
    """The largest distance of two sides of a record's bbox and of its points' box."""
    record = record_at(found.source, int(found.instances.position[row]))
    x, y, width, height = record["bbox"]
    corners = np.array([x, y, x + width, y + height], float)
    return float(np.abs(corners - found.instances.boxes[row]).max())


def _of_rare_shape(found: Survey) -> list[list[Oddity]]:
    objects = found.instances.select(~found.instances.is_crowd)
    if not len(objects):
        return []
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    image_sides = objects.image_sizes[objects.image][:, ::-1].astype(float)
    ratio = sides.max(axis=1) / sides.min(axis=1)
    share = (sides / image_sides).prod(axis=1)
    pixels = image_sides.prod(axis=1)
    size = lambda row: "{:g} x {:g} px".format(*sides[row].round(1))
    rare = (
        ("thin", ratio, _THIN, lambda row: f"{size(row)}, {ratio[row]:.0f} to 1"),
        ("tiny", -sides.max(axis=1), -_TINY_PX, size),
        ("large", share, _FILLS, lambda row: f"{100 * share[row]:.0f} % of its image"),
        (
            "huge image",
            pixels,
            _HUGE_IMAGE_PX,
            lambda row: f"{pixels[row] / 1e6:.0f} million pixels",
        ),
    )
    kinds = []
    for word, values, limit, describe in rare:
        rows = [
            row for row in np.argsort(-values, kind="stable") if values[row] >= limit
        ]
        kinds.append(
            [Oddity(int(objects.position[row]), word, describe(row)) for row in rows]
        )
    return kinds


def _path_of(
    found: Survey, record: dict[str, Any], folder: str, follow_links: bool
) -> str | None:
    image_id = record.get("image_id")
    if not is_id(image_id) or image_id not in found.source.image_rows:
        return None
    row = found.source.image_rows[image_id]
    known = np.flatnonzero(found.instances.image_position == row)
    if len(known):
        return found.instances.paths[int(known[0])]
    finder = ImageFinder(folder, follow_links=follow_links)
    try:
        return finder.path(finder.find(source_name(found.source.images[row])))
    except (AnnotationError, FileNotFoundError):
        return None


def _numbers(value: Any) -> np.ndarray | None:
    """A list of lists of numbers as [n, k]; None if it is none."""
    try:
        array = np.array(value, float)
    except (TypeError, ValueError, OverflowError):
        return None
    return array if array.ndim == 2 and array.shape[1] >= 2 else None
