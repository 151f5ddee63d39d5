"""Reader of Label Studio's export "JSON": tasks with annotations of regions.

Four keypoints make an object. They belong together by their parent (a rectangle under
which they were put, which then names the class), else by the note of their regions
(`meta`), else by their label, if exactly four regions of the task have it. Coordinates
are percents of the image.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exits_jax.data.records import AnnotationError, fault
from exits_jax.importers.items import ImageItem, Items, ObjectItem, Rejected
from exits_jax.importers.json_files import (
    outline_of,
    read_image,
    read_json,
    reject,
    short,
)
from exits_jax.importers.label_studio_fields import (
    Region,
    image_path,
    merged,
    name_of,
    read_region,
)
from exits_jax.importers.sides import class_of_points, split_side

_MAX_LISTED = 20
_BY_LABEL = ("label", "sides")  # kinds of groups that a label makes
_EXPORT = "choose the export 'JSON' (not 'JSON-MIN') in Label Studio"


def read(source: str | Path) -> Items:
    """Yields the objects of each task, and the images without any.

    Of several annotations of a task, the one marked as ground truth is read, else the
    first; further ones, cancelled ones, drafts and predictions are rejected.

    Args:
        source: The JSON of the export.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It is not JSON (E101), not this export (E102), or too large
            (E115).
    """
    tasks = read_json(source)
    if not isinstance(tasks, list):
        raise fault(
            "E102",
            f"{source} holds {outline_of(tasks)}; expected a list of tasks: {_EXPORT}.",
        )
    for position, task in enumerate(tasks):
        if isinstance(task, dict) and not {"data", "annotations"} & task.keys():
            raise fault(
                "E102",
                f"{source}: entry {position} has neither data nor annotations, like "
                f"the export 'JSON-MIN', which loses what is needed here; {_EXPORT}.",
            )
    for position, task in enumerate(tasks):
        if isinstance(task, dict):
            yield from _task_items(task, position)
        else:
            message = f"The task is {short(task)}; expected an object."
            yield Rejected(f"entry {position}", "E102", message)


def _task_items(task: dict[str, Any], position: int) -> Items:
    where = f"task {name_of(task.get('id'), position)}"
    for key in ("predictions", "drafts"):
        yield from _unsubmitted(task.get(key), where, key)
    result, others = _submitted(task.get("annotations"), where)
    yield from others
    names = [
        name_of(entry.get("id") if isinstance(entry, dict) else None, number)
        for number, entry in enumerate(result, start=1)
    ]
    try:
        path = image_path(task.get("data"), result)
        image = read_image(path, None, None)._replace(any_end=True)
    except AnnotationError as error:
        for record in (where, *(f"{where}, region {name}" for name in names)):
            yield reject(record, error)
        return
    regions: list[Region] = []
    for number, entry in enumerate(result, start=1):
        try:
            regions.append(read_region(entry, number))
        except AnnotationError as error:
            yield reject(f"{where}, region {names[number - 1]}", error)
    has_object = False
    for item in _objects(regions, image, where):
        has_object |= isinstance(item, ObjectItem)
        yield item
    if not has_object:
        yield image


def _unsubmitted(entries: Any, where: str, key: str) -> Iterator[Rejected]:
    if entries is None:
        return
    if not isinstance(entries, list):
        message = f"Its {key} are {short(entries)}; expected a list."
        yield Rejected(where, "E102", message)
        return
    for number in range(1, len(entries) + 1):
        message = f"It is one of the {key}, not a submitted annotation."
        yield Rejected(f"{where}, {key} {number}", "E218", message)


def _submitted(annotations: Any, where: str) -> tuple[list[Any], list[Rejected]]:
    """The result of the annotation to read, and all others as rejected."""
    if not isinstance(annotations, list):
        message = f"Its annotations are {short(annotations)}; expected a list."
        return [], [Rejected(where, "E102", message)]
    usable: list[tuple[str, dict[str, Any]]] = []
    others: list[Rejected] = []
    for number, annotation in enumerate(annotations, start=1):
        record = f"{where}, annotation {number}"
        fields = annotation if isinstance(annotation, dict) else {}
        if not isinstance(fields.get("result"), list):
            message = f"The annotation is {short(annotation)}; expected a result list."
            others.append(Rejected(record, "E102", message))
        elif fields.get("was_cancelled") or fields.get("cancelled"):
            message = "The annotation was cancelled: the task was skipped."
            others.append(Rejected(record, "E218", message))
        else:
            usable.append((record, fields))
    if not usable:
        return [], others
    is_truth = [fields.get("ground_truth") is True for _, fields in usable]
    _, chosen = usable.pop(is_truth.index(True) if any(is_truth) else 0)
    message = (
        f"The task has {len(usable) + 1} annotations, of which one is read: the one "
        "marked as ground truth, else the first."
    )
    others += [Rejected(record, "E218", message) for record, _ in usable]
    return merged(chosen["result"]), others


def _objects(
    regions: list[Region], image: ImageItem, where: str
) -> Iterator[ObjectItem | Rejected]:
    regions = _with_sides(regions)
    rectangles = [region for region in regions if region.is_rectangle]
    groups: dict[tuple[str, str], list[Region]] = {}
    for region in regions:
        if not region.is_rectangle:
            groups.setdefault(region.belongs_to, []).append(region)
    owned: set[int] = set()  # as identities: there may be thousands
    unclear: set[int] = set()
    owners_of: dict[tuple[str, str], list[Region]] = {}
    for rectangle in rectangles:
        for owning in _owns(rectangle):
            owners_of.setdefault(owning, []).append(rectangle)
    for (kind, key), members in groups.items():
        owners = owners_of.get((kind, key), [])
        owner = owners[0] if owners else None
        record = _record(where, members)
        is_shared = kind in _BY_LABEL and all((k, key) in groups for k in _BY_LABEL)
        if kind != "parent" and (len(owners) > 1 or is_shared):
            owner = None
            unclear.update(map(id, owners))
        try:
            item = _object(members, owner, image, record)
        except AnnotationError as error:
            yield reject(record, error)
            continue
        if owner is not None and not owner.rotation:
            owned.add(id(owner))
        yield item
    for rectangle in rectangles:
        if id(rectangle) in owned:
            continue
        record = _record(where, [rectangle])
        if id(rectangle) in unclear:
            message = (
                "Several rectangles, or several groups of keypoints, have its note or "
                "label: which belong together is not told. The keypoints are kept."
            )
            yield Rejected(record, "E217", message)
            continue
        try:
            yield _box_only(rectangle, image, record)
        except AnnotationError as error:
            yield reject(record, error)


def _with_sides(regions: list[Region]) -> list[Region]:
    """The regions; keypoints "car top", "car left", ... belong together as "car"."""
    sides: dict[tuple[str, str], list[int]] = {}
    for place, region in enumerate(regions):
        if not region.is_rectangle and region.belongs_to[0] == "label":
            if (split := split_side(region.label)) and split[1]:
                sides.setdefault(("sides", split[1]), []).append(place)
    changed = list(regions)
    for key, places in sides.items():
        if len(places) == 4 and class_of_points([regions[k].label for k in places]):
            for place in places:
                changed[place] = regions[place]._replace(belongs_to=key)
    return changed


def _owns(rectangle: Region) -> Iterator[tuple[str, str]]:
    """The groups of keypoints that a rectangle is the one of, as kind and key."""
    names = {"parent": rectangle.id, "note": rectangle.note}
    names |= dict.fromkeys(_BY_LABEL, rectangle.label)
    return ((kind, name) for kind, name in names.items() if name is not None)


def _record(where: str, members: list[Region]) -> str:
    listed = ", ".join(region.id for region in members[:_MAX_LISTED])
    rest = len(members) - _MAX_LISTED
    more = f" and {rest} more" if rest > 0 else ""
    return f"{where}, region{'s' * (len(members) > 1)} {listed}{more}"


def _object(
    members: list[Region], owner: Region | None, image: ImageItem, record: str
) -> ObjectItem:
    if len(members) != 4:
        raise fault(
            "E207",
            f"{len(members)} keypoints belong together by their "
            f"{members[0].belongs_to[0]} {short(members[0].belongs_to[1])}; expected "
            "four. Put the four keypoints of an object under one rectangle.",
        )
    upright = owner if owner is not None and not owner.rotation else None
    image = _sized(image, [*members, *([upright] if upright else [])])
    labels = {region.label for region in members}
    category = owner.label if owner is not None and owner.label else None
    if category is None:
        category = class_of_points([region.label for region in members])
    if not category:
        raise fault(
            "E108",
            f"The keypoints have the labels {short(sorted(map(str, labels)))}, and no "
            "rectangle with a label is their parent; expected one class.",
        )
    clicks = tuple((region.values[0], region.values[1]) for region in members)
    box = upright.values if upright is not None else None
    return ObjectItem(image, category, clicks, _four(box), "percent", record)


def _box_only(rectangle: Region, image: ImageItem, record: str) -> ObjectItem:
    if rectangle.rotation:
        raise fault(
            "E215",
            f"The rectangle is rotated by {rectangle.rotation:g} degrees; expected an "
            "upright one.",
        )
    if not rectangle.label:
        raise fault("E108", "The rectangle has no label; expected one class.")
    image = _sized(image, [rectangle])
    box = _four(rectangle.values)
    return ObjectItem(image, rectangle.label, None, box, "percent", record)


def _four(values: tuple[float, ...] | None) -> tuple[float, float, float, float] | None:
    if values is None:
        return None
    x0, y0, x1, y1 = values
    return x0, y0, x1, y1


def _sized(image: ImageItem, regions: list[Region]) -> ImageItem:
    sizes = {region.size for region in regions if region.size is not None}
    if not sizes:  # the header of the image says it
        return image
    if len(sizes) > 1:
        raise fault(
            "E110",
            f"Its regions state the image sizes {sorted(sizes)} (width, height); "
            "expected one.",
        )
    width, height = sizes.pop()
    return image._replace(width=width, height=height)
