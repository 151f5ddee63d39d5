"""Reader of CVAT's export "COCO Keypoints 1.0", and of COCO keypoints of other origin.

A skeleton has four keypoints; of one with more, those named top, left, bottom and right
are taken. The order of keypoints is not trusted: positions decide.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exits_jax.data.coco_file import CocoFile
from exits_jax.data.geometry import SIDES
from exits_jax.data.image_names import source_name
from exits_jax.data.records import AnnotationError, fault, is_id, kind_of_ids
from exits_jax.importers.items import ImageItem, Items, ObjectItem
from exits_jax.importers.json_files import (
    Box,
    box_with_area,
    is_number,
    read_image,
    reject,
    short,
)
from exits_jax.importers.sides import places_of_sides

Images = dict[int | str, ImageItem | AnnotationError]


def read(source: str | Path) -> Items:
    """Yields one object per annotation, and the images without any.

    Args:
        source: The JSON of the export (`annotations/person_keypoints_*.json` in its
            zip).

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It is not JSON (E101), holds no keypoints (E102) or numbers
            that are not finite outside the annotations (E104), names an image twice
            (E106) or is too large (E115).
    """
    file = CocoFile.read(source)
    _require_keypoints(file)
    categories = {category["id"]: category for category in file.categories}
    images: Images = {}
    for record in file.images:
        size = record.get("width"), record.get("height")
        try:
            image = read_image(source_name(record), *size)
            images[record["id"]] = image._replace(
                identity=f"image {short(record['id'])}",
                any_end=record.get("file_name") is None,
            )
        except AnnotationError as error:
            images[record["id"]] = error
            yield reject(f"image {short(record['id'])}", error)
    used: set[ImageItem] = set()
    for position in range(len(file.annotations)):
        where = f"entry {position} of annotations"
        try:
            record = file.annotations[position]
            if isinstance(record, dict) and is_id(record.get("id")):
                where = f"annotation {short(record['id'])}"
            item = _object(record, images, categories, where)
            if position in file.annotations.mended:
                item = item._replace(flags=("text_as_id",))
        except AnnotationError as error:
            yield reject(where, error)
            continue
        used.add(item.image)
        yield item
    for image in images.values():
        if isinstance(image, ImageItem) and image not in used:
            yield image


def _require_keypoints(file: CocoFile) -> None:
    """Refuses a file that cannot hold clicks at all, whatever its annotations."""
    if any(isinstance(c.get("keypoints"), list) for c in file.categories):
        return
    if any(isinstance(a, dict) and "keypoints" in a for a in file.annotations):
        return
    raise fault(
        "E102",
        f"{file.name} holds no keypoints. CVAT's export 'COCO 1.0' leaves points out: "
        "export points as 'CVAT for images 1.1', skeletons as 'COCO Keypoints 1.0'.",
    )


def _object(
    record: Any, images: Images, categories: dict[int | str, Any], where: str
) -> ObjectItem:
    if not isinstance(record, dict):
        raise fault("E102", f"The entry is {short(record)}; expected an object.")
    image_id, category_id = record.get("image_id"), record.get("category_id")
    if not is_id(image_id) or image_id not in images:
        raise fault(
            "E107",
            f"Its image_id {short(image_id)} is not among the images"
            f"{kind_of_ids(image_id, images)}.",
        )
    image = images[image_id]
    if isinstance(image, AnnotationError):
        raise image
    category = categories.get(category_id) if is_id(category_id) else None
    if category is None or not isinstance(category.get("name"), str):
        raise fault("E108", f"Its category_id {short(category_id)} names no category.")
    _refuse_crowd(record.get("iscrowd"))
    clicks = _clicks(record.get("keypoints"), category.get("keypoints"))
    extra = _kept_attributes(record.get("attributes"))
    if is_id(record.get("id")):
        extra["source_id"] = record["id"]
    return ObjectItem(
        image, category["name"], clicks, _box(record.get("bbox")), "px", where, extra
    )


def _refuse_crowd(is_crowd: Any) -> None:
    if is_crowd not in (None, 0, 1):
        raise fault("E104", f"Its iscrowd is {short(is_crowd)}; expected 0 or 1.")
    if is_crowd:
        raise fault("E219", "It is a crowd region (iscrowd 1), not one object.")


def _clicks(keypoints: Any, names: Any) -> tuple[tuple[float, float], ...]:
    """The four keypoints [x, y, visibility] that are clicks."""
    if not isinstance(keypoints, list) or len(keypoints) % 3:
        raise fault(
            "E207",
            f"Its keypoints are {short(keypoints)}; expected four times x, y and "
            "visibility.",
        )
    triples = [tuple(keypoints[i : i + 3]) for i in range(0, len(keypoints), 3)]
    places: Sequence[int] | None = range(4)
    if len(triples) != 4:
        is_named = isinstance(names, list) and len(names) == len(triples)
        places = places_of_sides(names) if is_named else None
    if places is None:
        raise fault(
            "E207",
            f"It has {len(triples)} keypoints, named {short(names)}; expected four, or "
            f"more among which {', '.join(SIDES)} occur once each.",
        )
    return tuple(_click(triples[place], place + 1) for place in places)


def _click(keypoint: Sequence[Any], number: int) -> tuple[float, float]:
    x, y, visibility = keypoint
    if not is_number(visibility) or visibility not in (0, 1, 2):
        raise fault(
            "E104",
            f"Its keypoint {number} has the visibility {short(visibility)}; expected "
            "0, 1 or 2.",
        )
    if visibility == 0:
        raise fault(
            "E207",
            f"Its keypoint {number} is missing (visibility 0); expected four clicks.",
        )
    if not is_number(x) or not is_number(y):
        raise fault(
            "E104",
            f"Its keypoint {number} is ({short(x)}, {short(y)}); expected two finite "
            "numbers in pixels.",
        )
    return float(x), float(y)


def _box(value: Any) -> Box | None:
    """[x, y, width, height] as xyxy."""
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 4 or not all(map(is_number, value)):
        raise fault(
            "E104",
            f"Its bbox is {short(value)}; expected four finite numbers "
            "[x, y, width, height] in pixels.",
        )
    x, y, width, height = map(float, value)
    return box_with_area(x, y, x + width, y + height)


def _kept_attributes(value: Any) -> dict[str, Any]:
    """What an annotator noted, so far as it is text, truth or a finite number."""
    if not isinstance(value, dict):
        return {}
    kept = {
        key: entry
        for key, entry in value.items()
        if isinstance(entry, str | bool | int)
        or (isinstance(entry, float) and math.isfinite(entry))
    }
    return {"attributes": kept} if kept else {}
