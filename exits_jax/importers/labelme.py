"""Reader of labelme: one JSON file per image, alone or in a folder.

Clicks are a shape with four vertices, or four `point` shapes of one `group_id`. A
polygon with more vertices is a mask, and polygons of one label and `group_id` are parts
of one mask: of these the extreme vertices are taken.
"""

import os
from pathlib import Path
from typing import Any

from exits_jax.data.annotations import AnnotationError, fault
from exits_jax.importers.items import ImageItem, Items, ObjectItem, Rejected
from exits_jax.importers.json_files import (
    is_inside,
    last_part,
    read_image,
    read_json,
    reject,
    short,
)
from exits_jax.importers.labelme_shapes import Shape, gather, object_of, read_shape
from exits_jax.importers.pairs import with_checks


def read(source: str | Path, images: str | Path | None = None) -> Items:
    """Yields the objects of each file, and the images without any.

    Args:
      source: a JSON file, or a folder whose JSON files are read in the order of their
        names. Of a folder, a file that is not labelme's is rejected with its fault.
      images: where the image files are; by default beside the JSON files. Asked only
        for an image that its JSON holds too, as `imageData`.

    Raises:
      FileNotFoundError: there is no such file or folder.
      AnnotationError: a single file is not JSON (E101), not labelme's (E102) or too
        large (E115), or a folder has no JSON file (E102).
    """
    path = Path(source)
    if not path.is_dir():
        yield from _file_items(_read_file(path), path, images)
        return
    files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".json")
    if not files:
        raise fault("E102", f"{path} holds no JSON file; expected labelme's files.")
    for file in files:
        try:
            content = _read_file(file)
        except AnnotationError as error:
            yield reject(file.name, error)
            continue
        yield from _file_items(content, file, images)


def _read_file(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise fault(
            "E102",
            f"{path} holds {short(content)}; expected labelme's JSON with a list "
            "`shapes` and `imagePath`.",
        )
    return content


def _file_items(
    content: dict[str, Any], path: Path, images: str | Path | None
) -> Items:
    where, entries = path.name, content["shapes"]
    records = [f"{where}, shape {number}" for number in range(1, len(entries) + 1)]
    try:
        image, flags = _image(content)
        _refuse_embedded(content.get("imageData"), image.file_name, images, path)
    except AnnotationError as error:
        for record in (where, *records):
            yield reject(record, error)
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


def _image(content: dict[str, Any]) -> tuple[ImageItem, dict[str, Any]]:
    """The image and, if only the last part of its path was taken, the flag of that."""
    name = content.get("imagePath")
    if not isinstance(name, str) or "://" in name:
        raise fault("E112", f"imagePath is {short(name)}; expected a file name.")
    flags: dict[str, Any] = {}
    if "\\" in name or not is_inside(name):
        name, flags = last_part(name), {"flags": ["W217"]}
    image = read_image(name, content.get("imageWidth"), content.get("imageHeight"))
    return image, flags


def _refuse_embedded(
    data: Any, name: str, images: str | Path | None, path: Path
) -> None:
    """Refuses an image that exists in its JSON alone; nothing is decoded here."""
    folder = path.parent if images is None else images
    if not data or os.path.isfile(os.path.join(folder, name)):
        return
    raise fault(
        "E111",
        f"The image {short(name)} is not in {folder}, only in the imageData of "
        f"{path.name}. Write it out (labelme_export_json does), or say where the "
        "images are.",
    )
