"""Reader of labelme: one JSON file per image, alone or in a folder.

Clicks are a shape with four vertices, or four `point` shapes of one `group_id`. A
polygon with three vertices, or more than four, is a mask, and polygons of one label and
`group_id` are parts of one mask: of these the extreme vertices are taken.
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
)
from exits_jax.importers.labelme_shapes import (
    Shape,
    gather,
    object_of,
    read_shape,
    with_classes,
)
from exits_jax.importers.pairs import with_checks


def read(source: str | Path, images: str | Path | None = None) -> Items:
    """Yields the objects of each file, and the images without any.

    Args:
        source: A JSON file, or a folder whose JSON files, those in folders below it
            too, are read in the order of their names. Of a folder, a file that is not
            labelme's is rejected with its fault; the report of an export is passed
            over.
        images: Where the image files are; by default beside the JSON files.

    Raises:
        FileNotFoundError: There is no such file or folder.
        AnnotationError: A single file is not JSON (E101), not labelme's (E102) or too
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
    try:
        image = _image(content, path.parent, folder, path)
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
    for members in gather(with_classes(shapes)):
        listed = ", ".join(str(shape.number) for shape in members)
        record = f"{where}, shape{'s' * (len(members) > 1)} {listed}"
        first = members[0]
        owners.append(None if first.group is None else (first.group, first.label))
        try:
            found.append(object_of(members, image, record))
        except AnnotationError as error:
            found.append(reject(record, error))
    paired = with_checks(found, owners)
    yield from paired
    if not any(isinstance(item, ObjectItem) for item in paired):
        yield image


def _image(
    content: dict[str, Any], beside: Path, folder: Path, path: Path
) -> ImageItem:
    """The image; labelme's paths are relative to the folder of the JSON."""
    name = content.get("imagePath")
    if not isinstance(name, str) or "://" in name or "\0" in name:
        raise fault("E112", f"imagePath is {short(name)}; expected a file name.")
    image = read_image(name, content.get("imageWidth"), content.get("imageHeight"))
    own = os.path.relpath(os.path.join(beside, name.replace("\\", "/")), folder)
    hint = ""
    if content.get("imageData"):
        hint = (
            f"It is only in the imageData of {path.name}. Write it out "
            "(labelme_export_json does), or say where the images are."
        )
    return image._replace(
        file_name=own if is_inside(own) and is_inside(name) else name,
        identity=own,
        any_end=True,
        is_loose=True,
        hint=hint,
    )
