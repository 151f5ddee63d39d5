"""Lists of separated and occluded objects, as `evaluate` uses them."""

import logging
from typing import Any, NamedTuple

import ml_collections as mlc

from exits_jax.data.coco_file import CocoFile
from exits_jax.data.records import is_id
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


def object_lists(config: mlc.ConfigDict, source: CocoFile) -> ObjectLists:
    """The lists of the configuration; warns of one made for other annotations.

    Args:
        config: The configuration.
        source: The annotations with the true masks. A published pickle repeats the
            masks of its objects; they are compared.

    Raises:
        AnnotationError: If a list cannot be read.
    """
    found: dict[str, set[int | str] | None] = {}
    for name in ObjectLists._fields:
        path = config.evaluate[f"{name}_ids"]
        found[name] = read_object_ids(path) if path else None
        if path:
            _compare(name, path, found[name] or set(), source)
    return ObjectLists(**found)


def _compare(name: str, path: str, ids: set[int | str], source: CocoFile) -> None:
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


def _masks_of(
    ids: set[int | str], source: CocoFile
) -> dict[int | str, tuple[Any, int, int]]:
    """Segmentation, height and width by id, of the listed records."""
    rows = source.image_rows
    found: dict[int | str, tuple[Any, int, int]] = {}
    for record in source.annotations:
        identity = record.get("id") if isinstance(record, dict) else None
        if not is_id(identity) or identity not in ids or identity in found:
            continue
        image_id: Any = record.get("image_id")
        image = source.images[rows[image_id]] if image_id in rows else {}
        size = image.get("height") or 0, image.get("width") or 0
        found[identity] = (record.get("segmentation"), *size)
    return found
