"""Reader of labelme: one JSON file per image, alone or in a folder.

Clicks are a shape with four vertices, or four `point` shapes of one `group_id`. A
polygon with more vertices is a mask, and polygons of one label and `group_id` are parts
of one mask: of these the extreme vertices are taken.
"""

import os
from pathlib import Path
from typing import Any

from exits_jax.data.records import AnnotationError, fault
from exits_jax.exporters.folders import REPORT
from exits_jax.files.paths import is_inside
from exits_jax.importers.items import ImageItem, Items, ObjectItem, Rejected
from exits_jax.importers.json_files import (
    outline_of,
    read_image,
    read_json,
    reject,
    short,
    tail_in,
)
from exits_jax.importers.labelme_shapes import Shape, gather, object_of, read_shape
from exits_jax.importers.pairs import with_checks


def read(source: str | Path, images: str | Path | None = None) -> Items:
    """Yields the objects of each file, and the images without any.

    Args:
      source: a JSON file, or a folder whose JSON files, those in folders below it too,
        are read in the order of their names. Of a folder, a file that is not labelme's
        is rejected with its fault; the report of an export is passed over.
      images: where the image files are; by default beside the JSON files.

    Raises:
      FileNotFoundError: there is no such file or folder.
      AnnotationError: a single file is not JSON (E101), not labelme's (E102) or too
        large (E115), or a folder has no JSON file (E102).
    """
    path = Path(source)
    if not path.is_dir():
        yield from _file_items(_read_file(path), path, path.parent, images)
        return
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() == ".json" and file.name != REPORT
    )
    if not files:
        raise fault("E102", f"{path} holds no JSON file; expected labelme's files.")
    for file in files:
        try:
            content = _read_file(file)
        except AnnotationError as error:
            yield reject(str(file.relative_to(path)), error)
            continue
        yield from _file_items(content, file, path, images)


def _read_file(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise fault(
            "E102",
            f"{path} is not labelme's: it holds {outline_of(content)}; expected "
            "`imagePath` and a list `shapes`.",
        )
    return content


def _file_items(
    content: dict[str, Any], path: Path, root: Path, images: str | Path | None
) -> Items:
    where, entries = str(path.relative_to(root)), content["shapes"]
    folder = root if images is None else Path(images)
    records = [f"{where}, shape {number}" for number in range(1, len(entries) + 1)]
    image = None
    try:
        image, flags = _image(content, path.parent, folder)
        _refuse_embedded(content.get("imageData"), image.file_name, folder, path)
    except AnnotationError as error:
        for record in (where, *records):
            yield reject(record, error)
        if image is not None:  # it is counted as one that is not there
            yield image
        return
    shapes: list[Shape] = []
    for number, (entry, record) in enumerate(zip(entries, records), start=1):
        try:
            shapes.append(read_shape(entry, number))
        except AnnotationError as error:
            yield reject(record, error)
    found: list[ObjectItem | Rejected] = []
    owners: list[tuple[int | str, str] | None] = []
    for members in gather(shapes):
        listed = ", ".join(str(shape.number) for shape in members)
        record = f"{where}, shape{'s' * (len(members) > 1)} {listed}"
        first = members[0]
        owners.append(None if first.group is None else (first.group, first.label))
        try:
            found.append(object_of(members, image, record, flags))
        except AnnotationError as error:
            found.append(reject(record, error))
    paired = with_checks(found, owners)
    yield from paired
    if not any(isinstance(item, ObjectItem) for item in paired):
        yield image


def _image(
    content: dict[str, Any], beside: Path, folder: Path
) -> tuple[ImageItem, dict[str, Any]]:
    """The image and, if only an end of its path was taken, the flag of that.

    labelme's paths are relative to the folder of the JSON.
    """
    path = content.get("imagePath")
    if not isinstance(path, str) or "://" in path or "\0" in path:
        raise fault("E112", f"imagePath is {short(path)}; expected a file name.")
    own = os.path.relpath(os.path.join(beside, path.replace("\\", "/")), folder)
    is_below = is_inside(own)
    if is_below and (folder / own).is_file():
        name = own
    else:
        name = tail_in(path, folder)
        is_plain = "\\" not in path and is_inside(path)
        if is_plain and not (folder / name).is_file():
            name = own if is_below else path
    flags = {} if name in (own, path) else {"flags": ["W217"]}
    image = read_image(name, content.get("imageWidth"), content.get("imageHeight"))
    return image, flags


def _refuse_embedded(data: Any, name: str, folder: Path, path: Path) -> None:
    """Refuses an image that exists in its JSON alone; nothing is decoded here."""
    if not data or os.path.isfile(os.path.join(folder, name)):
        return
    raise fault(
        "E111",
        f"The image {short(name)} is not in {folder}, only in the imageData of "
        f"{path.name}. Write it out (labelme_export_json does), or say where the "
        "images are.",
    )
