"""COCO instance files of stage 2: what has to hold before a detector reads them."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from exits_jax.export.files import write_json
from exits_jax.stage2.errors import Stage2Error

_SHOWN = 3  # examples in a message


class CocoJson(NamedTuple):
    """A COCO instances file whose records fit together."""

    path: Path
    content: dict[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the categories, in the order of the file.

        The order matters: mmdet gives class index k to the k-th category of the file,
        whatever the order of the names that it was told.
        """
        return tuple(category["name"] for category in self.content["categories"])

    @property
    def images(self) -> list[dict[str, Any]]:
        """The records of the images."""
        return self.content["images"]

    @property
    def annotations(self) -> list[dict[str, Any]]:
        """The records of the objects, crowd regions among them."""
        return self.content["annotations"]


def read_coco(path: str | Path, *, masks: bool = True) -> CocoJson:
    """Reads a COCO instances file.

    Args:
        path: The file.
        masks: Whether each object has to have a mask.

    Raises:
        Stage2Error: If it is missing, no such file, or its records do not fit together:
            categories that are missing, of the same name or id; objects of unknown
            images or categories or of the same id, or without a mask or a box; or if
            it holds no object at all.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Stage2Error(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise Stage2Error(f"{path} is no JSON: {error}.") from error
    coco = CocoJson(path, content)
    _check_lists(coco)
    _check_categories(coco)
    _check_images(coco)
    _check_objects(coco, masks)
    return coco


def check_same_classes(train: CocoJson, val: CocoJson) -> None:
    """Raises Stage2Error unless both files have the same categories in the same order.

    A detector learns the classes by their place in the list of `train` and is judged by
    their place in that of `val`.
    """
    if train.classes == val.classes:
        return  # ids may differ: detections are written with those of `val`
    missing = [name for name in train.classes if name not in val.classes]
    further = [name for name in val.classes if name not in train.classes]
    if missing or further:
        raise Stage2Error(
            f"{train.path} and {val.path} have different classes: "
            f"{_listing(missing) or 'none'} only in the first, "
            f"{_listing(further) or 'none'} only in the second."
        )
    pairs = zip(train.classes, val.classes)
    place = next(k for k, (one, other) in enumerate(pairs) if one != other)
    raise Stage2Error(
        f"{train.path} and {val.path} have the same classes in another order: class "
        f"{place} is {train.classes[place]!r} in the first and "
        f"{val.classes[place]!r} in the second. Detectors go by the order."
    )


def check_image_files(
    coco: CocoJson, folder: str | Path, *, by_url: bool = False
) -> None:
    """Looks at every image file's header.

    Args:
        coco: Whose images.
        folder: Where they are.
        by_url: By the end of `coco_url`, as mmdet's LVIS classes find them.

    Raises:
        Stage2Error: With counts and examples, if images are not in the folder, cannot
            be read, or have another size than the file says.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise Stage2Error(f"The image folder {folder} does not exist.")
    names = [file_name(image, by_url) for image in coco.images]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise Stage2Error(
            f"{len(missing)} of {len(names)} images of {coco.path} are not in "
            f"{folder}: {_listing(missing)}."
        )
    each = zip(coco.images, names)
    faults = [
        said for image, name in each if (said := _size_fault(image, folder / name))
    ]
    if faults:
        raise Stage2Error(
            f"{len(faults)} of {len(names)} images of {coco.path} do not fit: "
            f"{faults[0]}."
        )


def file_name(image: Mapping[str, Any], by_url: bool = False) -> str:
    """Where an image is in its folder."""
    if "coco_url" in image and (by_url or not image.get("file_name")):
        return "/".join(image["coco_url"].split("/")[-2:])  # train2017/NAME.jpg
    return image["file_name"]


def _size_fault(image: Mapping[str, Any], path: Path) -> str:
    try:
        with Image.open(path) as opened:
            width, height = opened.size
    except (OSError, Image.DecompressionBombError) as error:
        return f"{path} cannot be read: {error}"
    if (width, height) == (image["width"], image["height"]):
        return ""
    return (
        f"{path} is {width} x {height} px, where the file says {image['width']} x "
        f"{image['height']}"
    )


def write_box_masks(coco: CocoJson, path: Path) -> None:
    """Writes the file again with each object's whole box as its mask.

    The floor that any mask has to beat. Crowd regions stay as they are. A pixel belongs
    to the box if its centre does.
    """
    sizes = {image["id"]: (image["height"], image["width"]) for image in coco.images}
    filled = [
        record if record.get("iscrowd") else _as_box(record, *sizes[record["image_id"]])
        for record in coco.annotations
    ]
    write_json(path, coco.content | {"annotations": filled})


def write_single_class(coco: CocoJson, path: Path) -> None:
    """Writes the file again with the one class "object" for all of its objects."""
    records = [record | {"category_id": 1} for record in coco.annotations]
    categories = [{"id": 1, "name": "object"}]
    write_json(path, coco.content | {"annotations": records, "categories": categories})


def _as_box(record: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    x, y, w, h = record["bbox"]
    mask = np.zeros((height, width), np.uint8, order="F")
    # Centres are at half pixels; a box thinner than a pixel keeps the one it is in.
    left, top = max(int(np.floor(x + 0.5)), 0), max(int(np.floor(y + 0.5)), 0)
    right, bottom = int(np.floor(x + w + 0.5)), int(np.floor(y + h + 0.5))
    left, top = min(left, width - 1), min(top, height - 1)
    mask[top : max(bottom, top + 1), left : max(right, left + 1)] = 1
    rle = coco_mask.encode(mask)
    return record | {
        "segmentation": {"size": [height, width], "counts": rle["counts"].decode()},
        "area": int(coco_mask.area(rle)),
    }


def _check_lists(coco: CocoJson) -> None:
    if not isinstance(coco.content, dict):
        raise Stage2Error(f"{coco.path} is no COCO instances file: no JSON object.")
    for name in ("images", "annotations", "categories"):
        records = coco.content.get(name)
        if not isinstance(records, list) or not all(
            isinstance(record, dict) for record in records
        ):
            raise Stage2Error(
                f"{coco.path} is no COCO instances file: it has no list {name!r}."
            )


def _check_categories(coco: CocoJson) -> None:
    categories = coco.content["categories"]
    if not categories:
        raise Stage2Error(f"{coco.path} has no categories.")
    for category in categories:
        if not isinstance(category.get("name"), str) or "id" not in category:
            raise Stage2Error(
                f"{coco.path}: a category without name or id: {category}."
            )
    for field in ("name", "id"):
        twice = _repeated(category[field] for category in categories)
        if twice:
            raise Stage2Error(
                f"{coco.path} has several categories of the {field} {_listing(twice)}."
            )


def _check_images(coco: CocoJson) -> None:
    for image in coco.images:
        absent = [f for f in ("id", "height", "width") if f not in image]
        if not (image.get("file_name") or image.get("coco_url")):
            absent.append("file_name")
        if absent:
            raise Stage2Error(
                f"{coco.path}: the image {image.get('id', image)} has no "
                f"{' and no '.join(absent)}."
            )
    twice = _repeated(image["id"] for image in coco.images)
    if twice:
        raise Stage2Error(
            f"{coco.path} has several images of the id {_listing(twice)}."
        )


def _check_objects(coco: CocoJson, masks: bool) -> None:
    path, records = coco.path, coco.annotations
    if not any(not record.get("iscrowd") for record in records):
        raise Stage2Error(f"{path} holds no object: there is nothing to learn from.")
    _refuse(path, "no id", [r for r in records if "id" not in r], len(records))
    twice = _repeated(record["id"] for record in records)
    if twice:
        raise Stage2Error(f"{path} has several objects of the id {_listing(twice)}.")
    images = {image["id"] for image in coco.images}
    categories = {category["id"] for category in coco.content["categories"]}
    faults = {
        "no image in the file": lambda r: r.get("image_id") not in images,
        "no category in the file": lambda r: r.get("category_id") not in categories,
        "no box": lambda r: not _is_box(r.get("bbox")),
        "no area": lambda r: not isinstance(r.get("area"), int | float),
    }
    if masks:
        faults["no mask"] = lambda r: not r.get("segmentation")
    for fault, applies in faults.items():
        _refuse(path, fault, [r for r in records if applies(r)], len(records))


def _refuse(
    path: Path, fault: str, found: Sequence[Mapping[str, Any]], total: int
) -> None:
    if found:
        names = _listing([record.get("id", "?") for record in found])
        raise Stage2Error(
            f"{path}: {len(found)} of {total} objects have {fault}: id {names}."
        )


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(isinstance(number, int | float) for number in value)
    )


def _repeated(values: Iterable[Any]) -> list[Any]:
    return [value for value, count in Counter(values).items() if count > 1]


def _listing(values: Sequence[Any]) -> str:
    shown = ", ".join(str(value) for value in values[:_SHOWN])
    more = len(values) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
