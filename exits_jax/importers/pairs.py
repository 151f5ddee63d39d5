"""Boxes that were drawn beside the clicks of the same object."""

from collections.abc import Hashable, Sequence
from typing import Any

from exits_jax.importers.items import ObjectItem, Rejected
from exits_jax.importers.json_files import short


def with_checks(
    found: Sequence[ObjectItem | Rejected], owners: Sequence[Hashable | None]
) -> list[ObjectItem | Rejected]:
    """Joins each box to the clicks of the object it was drawn for.

    One box and one object with clicks that share an owner become one object, whose
    clicks can be checked against the box. Where several share it, the boxes are
    rejected (E217): which belongs to which is not told, and as objects of their own
    they would stand for the same things twice.

    Args:
        found: What the shapes of one image became, in order.
        owners: What the annotator tied each of them to, such as (group, label).
    """
    clicked: dict[Any, list[int]] = {}
    boxed: dict[Any, list[int]] = {}
    for place, (item, owner) in enumerate(zip(found, owners)):
        if owner is not None and isinstance(item, ObjectItem):
            kind = boxed if item.clicks is None else clicked
            kind.setdefault(owner, []).append(place)
    joined: list[ObjectItem | Rejected | None] = list(found)
    for owner in clicked.keys() & boxed.keys():
        item, check = found[clicked[owner][0]], found[boxed[owner][0]]
        is_one_of_each = len(clicked[owner]) == len(boxed[owner]) == 1
        if is_one_of_each and isinstance(check, ObjectItem):
            record = f"{item.record} with the box of {check.record}"
            joined[clicked[owner][0]] = item._replace(box=check.box, record=record)
            joined[boxed[owner][0]] = None
            continue
        for place in boxed[owner]:
            message = (
                f"{len(clicked[owner])} shapes with clicks and {len(boxed[owner])} "
                f"boxes share the group and label {short(owner)}: which box belongs to "
                "which is not told. The clicks are kept."
            )
            joined[place] = Rejected(found[place].record, "E217", message)
    return [item for item in joined if item is not None]
