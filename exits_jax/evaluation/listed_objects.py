"""Lists of separated and occluded objects, as `evaluate` uses them."""

import logging
from typing import Any, NamedTuple

import ml_collections as mlc

from exits_jax.data.coco_file import CocoFile
from exits_jax.data.records import is_id, is_length
from exits_jax.data.table import Instances
from exits_jax.evaluation.object_lists import (
    compare_with,
    holds_masks,
    read_object_ids,
    read_object_list,
)

_logger = logging.getLogger(__name__)


class ObjectLists(NamedTuple):
    """Ids of objects that somebody listed; None where nobody did."""

    separated: set[int | str] | None
    occluded: set[int | str] | None


def read_lists(config: mlc.ConfigDict) -> ObjectLists:
    """The lists of the configuration.

    Raises:
        AnnotationError: If one cannot be read.
    """
    paths = (config.evaluate[f"{name}_ids"] for name in ObjectLists._fields)
    return ObjectLists(*(read_object_ids(path) if path else None for path in paths))


def object_lists(
    config: mlc.ConfigDict, source: CocoFile, objects: Instances
) -> ObjectLists:
    """The lists of the configuration; warns of what they name in vain.

    Args:
        config: The configuration.
        source: The annotations with the true masks. A published pickle repeats the
            masks of its objects; they are compared.
        objects: Those that are evaluated.

    Raises:
        AnnotationError: If a list cannot be read.
    """
    lists = read_lists(config)
    if lists == ObjectLists(None, None):
        return lists
    evaluated = set(objects.annotation_ids)
    for name, ids in lists._asdict().items():
        if ids is not None:
            path = config.evaluate[f"{name}_ids"]
            _compare(name, path, ids, source, evaluated)
    return lists


def _compare(
    name: str,
    path: str,
    ids: set[int | str],
    source: CocoFile,
    evaluated: set[int | str],
) -> None:
    masks = _masks_of(ids, source)
    unknown, differing = ids - masks.keys(), set()
    if holds_masks(path):
        differing = compare_with(read_object_list(path), masks).differing
    if unknown or differing:
        _logger.warning(
            "evaluate.%s_ids: of %d listed objects %d are not in %s and %d have "
            "another mask there. Was the list made for other annotations?",
            name,
            len(ids),
            len(unknown),
            source.name,
            len(differing),
        )
    if left_out := ids & masks.keys() - evaluated:
        first = min(left_out, key=lambda one: (isinstance(one, str), one))
        _logger.warning(
            "evaluate.%s_ids: %d listed objects do not count, %r for one: they were "
            "left out by `prepare`, as crowds too, or are smaller than "
            "data.min_side_px.",
            name,
            len(left_out),
            first,
        )


def _masks_of(
    ids: set[int | str], source: CocoFile
) -> dict[int | str, tuple[Any, int, int]]:
    """Segmentation, height and width by id, of the listed records.

    The records are as they stand in the file. One whose image is not known has the size
    0, which no mask has.
    """
    rows = source.image_rows
    found: dict[int | str, tuple[Any, int, int]] = {}
    for record in source.annotations:
        identity = record.get("id") if isinstance(record, dict) else None
        if not is_id(identity) or identity not in ids or identity in found:
            continue
        image_id: Any = record.get("image_id")
        is_known = is_id(image_id) and image_id in rows
        image = source.images[rows[image_id]] if is_known else {}
        sides: list[Any] = [image.get("height"), image.get("width")]
        height, width = sides if all(map(is_length, sides)) else (0, 0)
        found[identity] = record.get("segmentation"), height, width
    return found
