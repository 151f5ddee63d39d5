"""Reader of boxes as PASCAL VOC's XML has them: LabelImg, CVAT, Roboflow and others.

One XML per image, alone or in a folder. Corners are taken as they are written: these
tools count from the corner of the image, as we do.
"""

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from exits_jax.data.image_names import is_foreign
from exits_jax.data.records import AnnotationError, fault
from exits_jax.files.paths import is_inside
from exits_jax.importers.items import ImageItem, Items, ObjectItem
from exits_jax.importers.json_files import box_with_area, read_image, reject, short
from exits_jax.importers.numbers import read_number
from exits_jax.importers.xml_files import xml_events

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_MARKS = ("difficult", "truncated", "occluded")


def read(source: str | Path) -> Items:
    """Yields the objects of each file, and the images without any.

    Args:
        source: An XML file, or a folder whose XML files, those in folders below it too,
            are read in the order of their names.

    Raises:
        FileNotFoundError: There is no such file or folder.
        AnnotationError: A single file is not XML (E101) or not VOC's (E102), has a
            document type (E116), or a folder has no XML file (E102).
    """
    path = Path(source)
    if not path.is_dir():
        yield from _file_items(_root(path), path.name, Path())
        return
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() == ".xml")
    if not files:
        raise fault("E102", f"{path} holds no XML file; expected one per image.")
    for file in files:
        below = file.relative_to(path)
        try:
            root = _root(file)
        except AnnotationError as error:
            yield reject(str(below), error)
            continue
        yield from _file_items(root, str(below), below.parent)


def _root(path: Path) -> Element:
    root = Element("none")
    for event, element in xml_events(path, path.name):
        if event == "start" and root.tag == "none":
            root = element
    if root.tag != "annotation":
        raise fault(
            "E102",
            f"{path} is XML with the root <{root.tag:.40}>; expected <annotation>.",
        )
    return root


def _file_items(root: Element, where: str, folder: Path) -> Items:
    objects = root.findall("object")
    try:
        image = _image(root, where, folder)
    except AnnotationError as error:
        for place in range(len(objects) + 1):
            yield reject(f"{where}, object {place}" if place else where, error)
        return
    is_used = False
    for place, entry in enumerate(objects, start=1):
        record = f"{where}, object {place}"
        try:
            yield _object(entry, image, record)
            is_used = True
        except AnnotationError as error:
            yield reject(record, error)
    if not is_used:
        yield image


def _image(root: Element, where: str, folder: Path) -> ImageItem:
    name = (root.findtext("filename") or "").strip() or Path(where).stem
    size = [root.findtext(f"size/{side}") for side in ("width", "height")]
    lengths = [int(read_number(text, "size")) if text else 0 for text in size]
    # Some tools write 0 where they did not look: the header of the image says it.
    width, height = lengths if all(lengths) else (None, None)
    own = (folder / name.replace("\\", "/")).as_posix()
    is_below = is_inside(own) and not is_foreign(name)
    return read_image(name, width, height)._replace(
        identity=own,
        preferred=own if is_below and own != name else "",
        is_loose=True,
    )


def _object(entry: Element, image: ImageItem, record: str) -> ObjectItem:
    label = (entry.findtext("name") or "").strip()
    if not label:
        raise fault("E108", "The object has no name; expected that of its class.")
    box = entry.find("bndbox")
    if box is None:
        if entry.find("robndbox") is not None:
            raise fault("E215", "The box is rotated; expected an upright one.")
        tags = short([child.tag for child in entry])
        raise fault("E217", f"The object has {tags}; expected a bndbox.")
    x0, y0, x1, y1 = (read_number(box.findtext(key), key) for key in _CORNERS)
    extra: dict[str, Any] = {
        f"is_{mark}": True
        for mark in _MARKS
        if (entry.findtext(mark) or "").strip() == "1"
    }
    corners = box_with_area(x0, y0, x1, y1)
    return ObjectItem(image, label, None, corners, "px", record, extra)
