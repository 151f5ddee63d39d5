"""COCO instance files of stage 2: what has to hold before a detector reads them."""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from exits_jax.data.masks import decode_mask
from exits_jax.data.records import AnnotationError, is_id
from exits_jax.files.words import printable
from exits_jax.stage2.errors import Stage2Error
from exits_jax.stage2.inputs.json_file import read_json

_SHOWN = 3  # examples in a message
_UNSAFE = re.compile(r"^/|(^|/)\.\.(/|$)")  # a name that leads out of its folder
_TAIL = 2**12  # bytes in which a whole JPEG or PNG ends
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_EMPTY = "E213"  # code of a mask without a pixel


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
    coco = CocoJson(path, read_json(path))
    _check_lists(coco)
    _check_categories(coco)
    _check_images(coco)
    _check_objects(coco, masks)
    return coco


def check_same_classes(train: CocoJson, val: CocoJson) -> None:
    """Raises Stage2Error unless both files have the same categories in the same order.

    A detector learns the classes by their place in the list of `train` and is evaluated
    by their place in that of `val`.
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
    """Looks at every image file's header and end; decodes what does not end well.

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
    missing = [name for name in names if not _is_file(folder / name)]
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


def check_masks(coco: CocoJson) -> None:
    """Decodes every mask, with the checks that compiled code leaves out.

    A polygon with a NaN or a far vertex takes all memory. A mask without a pixel is
    none of a model's faults and stays: COCO has some.

    Raises:
        Stage2Error: With counts and the first reason, if masks are broken or of another
            size than their images.
    """
    sizes = {image["id"]: (image["height"], image["width"]) for image in coco.images}
    faults = []
    for record in coco.annotations:
        try:
            decode_mask(record["segmentation"], *sizes[record["image_id"]])
        except AnnotationError as error:
            if error.problems[0].code != _EMPTY:
                faults.append(f"object {record['id']}: {error}")
    if faults:
        raise Stage2Error(
            f"{coco.path}: {len(faults)} of {len(coco.annotations)} masks cannot be "
            f"read: {faults[0]}"
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
            if not _ends_well(path, opened.format):
                opened.load()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        return f"{path} cannot be read: {error}"
    if (width, height) == (image["width"], image["height"]):
        return ""
    return (
        f"{path} is {width} x {height} px, where the file says {image['width']} x "
        f"{image['height']}"
    )


def _ends_well(path: Path, kind: str | None) -> bool:
    """Whether a file has the end of its kind; one without it may still be whole."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return kind not in _ENDS or _ENDS[kind] in file.read()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


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
        if not isinstance(category.get("name"), str) or not is_id(category.get("id")):
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
        absent = [f for f in ("height", "width") if not _is_length(image.get(f))]
        if not is_id(image.get("id")):
            absent.append("id")
        names = [image[f] for f in ("file_name", "coco_url") if image.get(f)]
        if not names or not all(isinstance(name, str) for name in names):
            absent.append("file_name")
        elif _UNSAFE.search(file_name(image)):
            raise Stage2Error(
                f"{coco.path}: the file name {file_name(image)!a:.200} leads out of "
                "the image folder; expected a path below it."
            )
        if absent:
            raise Stage2Error(
                f"{coco.path}: the image {image.get('id', image)} has no usable "
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
    _refuse(path, "no id", [r for r in records if not is_id(r.get("id"))], len(records))
    twice = _repeated(record["id"] for record in records)
    if twice:
        raise Stage2Error(f"{path} has several objects of the id {_listing(twice)}.")
    images = {image["id"] for image in coco.images}
    categories = {category["id"] for category in coco.content["categories"]}
    faults = {
        "no image in the file": lambda r: not _is_of(r.get("image_id"), images),
        "no category in the file": lambda r: (
            not _is_of(r.get("category_id"), categories)
        ),
        "no box": lambda r: not _is_box(r.get("bbox")),
        "no area": lambda r: not _is_number(r.get("area")),
        "an iscrowd other than 0 and 1": lambda r: r.get("iscrowd") not in (0, 1, None),
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
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_length(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_of(value: Any, ids: Collection[Any]) -> bool:
    return is_id(value) and value in ids


def _repeated(values: Iterable[Any]) -> list[Any]:
    return [value for value, count in Counter(values).items() if count > 1]


def _listing(values: Sequence[Any]) -> str:
    shown = ", ".join(f"{printable(value):.200}" for value in values[:_SHOWN])
    more = len(values) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
