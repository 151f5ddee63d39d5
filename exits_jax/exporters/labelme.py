"""labelme's layout: a JSON file per image, a shape per part of an object."""

import os
from pathlib import Path, PurePosixPath
from typing import Any

from exits_jax.exporters.masks import ImageMasks, MaskObject, MaskSource, Options
from exits_jax.exporters.outlines import outlines
from exits_jax.exporters.polygons import INSET, Polygon
from exits_jax.exporters.report import Report
from exits_jax.exporters.shared import with_files, without_crowds
from exits_jax.files.json_files import write_json

_VERSION = "5.5.0"  # of labelme, whose fields these are


def write_labelme(
    source: MaskSource, folder: Path, options: Options, report: Report
) -> None:
    """Writes a JSON file per image, without its pixels.

    The parts of an object share a `group_id`. Its score and id are further fields of
    each shape, which labelme keeps.
    """
    for image, path in with_files(source, ".json", report):
        objects = without_crowds(image, report)
        shapes: list[dict[str, Any]] = []
        for group, item in enumerate(objects, start=1):
            parts = outlines(item, options, report, inset=INSET)
            report.warn("split_objects", int(len(parts) > 1))
            shapes += _shapes(item, source.categories[item.category], group, parts)
        report.wrote(len(objects))
        content = {
            "version": _VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": _image_path(image, path, folder, options),
            "imageData": None,
            "imageHeight": image.height,
            "imageWidth": image.width,
        }
        write_json(folder / path, content)


def _shapes(
    item: MaskObject, label: str, group: int, parts: list[Polygon]
) -> list[dict[str, Any]]:
    return [
        {
            "label": label,
            "points": part.points.tolist(),
            "group_id": group if len(parts) > 1 else None,
            "description": "" if item.score is None else f"score {item.score:.3f}",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
            "annotation_id": item.annotation_id,
            "score": item.score,
        }
        for part in parts
    ]


def _image_path(
    image: ImageMasks, path: PurePosixPath, folder: Path, options: Options
) -> str:
    """The image as seen from its JSON file; beside it, if its folder is not known."""
    if options.images is None:
        return PurePosixPath(image.file_name).name
    place = (options.out or folder) / path
    return os.path.relpath(options.images / image.file_name, place.parent)
