"""The formats that can be imported, by name.

A reader's module is imported when it is asked for, so that one format does not pay for
the libraries of another.
"""

import importlib
from pathlib import Path
from typing import Any, NamedTuple

from exits_jax.files.words import did_you_mean
from exits_jax.importers.items import Items


class Kind(NamedTuple):
    """A format: where its reader is, and what a person should know."""

    module: str
    description: str
    options: tuple[str, ...] = ()  # fields of `Options` that its reader takes


class Options(NamedTuple):
    """What can be asked of a reader; each reader takes the ones that concern it."""

    images: str | None = None  # the image folder
    class_names: str | None = None  # CSV of identifiers and names
    keep_group_of: bool = False
    keep_depictions: bool = True


KINDS = {
    "extremenet": Kind("extremenet", "ExtremeNet JSON: COCO with extreme_points"),
    "open_images": Kind(
        "open_images",
        "Open Images boxes CSV with the columns XClick1X to XClick4Y",
        ("class_names", "keep_group_of", "keep_depictions"),
    ),
    "cvat": Kind("cvat_xml", "CVAT XML or its zip, the export 'CVAT for images 1.1'"),
    "cvat_keypoints": Kind(
        "cvat_keypoints", "CVAT skeletons, the export 'COCO Keypoints 1.0'"
    ),
    "label_studio": Kind("label_studio", "Label Studio, the export 'JSON'"),
    "labelme": Kind("labelme", "labelme, one JSON or a folder of them", ("images",)),
    "via": Kind("via", "VGG Image Annotator (VIA 1 or 2), a project, JSON or CSV"),
    "yolo": Kind("yolo", "YOLO boxes or outlines: data.yaml, or a folder of labels"),
    "voc_xml": Kind("voc_xml", "boxes as PASCAL VOC's XML, one file or a folder"),
    "csv": Kind("csv_table", "a table: file, category and four clicks per line"),
    "coco_boxes": Kind("coco_boxes", "COCO instances, of which only boxes are taken"),
}


class UnknownKind(ValueError):
    """A format that nothing here reads; the message lists the ones that are."""


def read(kind: str, source: str | Path, options: Options | None = None) -> Items:
    """Opens a file of a format.

    Args:
        kind: One of `KINDS`.
        source: The file, or the folder where the format is one of folders.
        options: What to ask of the reader.

    Raises:
        UnknownKind: There is no such format.
    """
    known = find(kind)
    asked: dict[str, Any] = (options or Options())._asdict()
    chosen = {name: asked[name] for name in known.options}
    return _module(known).read(source, **chosen)


def find(kind: str) -> Kind:
    """A format by its name.

    Raises:
        UnknownKind: There is none; says which there are.
    """
    if kind in KINDS:
        return KINDS[kind]
    hint = did_you_mean(kind, KINDS)
    listed = "\n".join(f"  {name}: {known[1]}" for name, known in KINDS.items())
    raise UnknownKind(f"The kind {kind!r} is not known.{hint} Known kinds:\n{listed}")


def box_only_warning(kind: str) -> str:
    """What to say when every object of a file is a box alone; empty: nothing.

    A reader whose format is known to lose the clicks has the text, which begins with
    its code, in `BOX_ONLY_WARNING`.
    """
    return getattr(_module(find(kind)), "BOX_ONLY_WARNING", "")


def _module(kind: Kind) -> Any:
    return importlib.import_module(f"exits_jax.importers.{kind.module}")
