"""Label Studio's tasks, with the masks as predictions to review."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from exits_jax.exporters.cvat_xml import Xml, clean
from exits_jax.exporters.label_studio_rle import encode
from exits_jax.exporters.masks import ImageMasks, MaskSource, Options
from exits_jax.exporters.report import Report
from exits_jax.exporters.shared import without_crowds

FILE, CONFIG = "tasks.json", "label_config.xml"
_LABELS, _IMAGE = "labels", "image"  # names that connect results with the config


def write_label_studio(
    source: MaskSource, folder: Path, options: Options, report: Report
) -> None:
    """Writes `tasks.json` and the labeling configuration that it goes with.

    Each image is a task with one prediction, whose regions are brush masks. The score
    of a prediction is the mean over its regions.
    """
    names = [clean(name) for name in source.categories]
    renamed = sum(a != b for a, b in zip(names, source.categories))
    report.warn("renamed_classes", renamed)
    version = _model_version(source.provenance)
    with (folder / FILE).open("w", encoding="utf-8") as file:
        begin = "[\n"
        for image in source.images():
            task = _task(image, names, version, options.image_prefix, report)
            file.write(begin + json.dumps(task, allow_nan=False))
            begin = ",\n"
            report.num_images += 1
        file.write("[]\n" if begin == "[\n" else "\n]\n")
    _write_config(folder / CONFIG, names)


def _task(
    image: ImageMasks, names: list[str], version: str, prefix: str, report: Report
) -> dict[str, Any]:
    objects = without_crowds(image, report)
    size = {"width": image.width, "height": image.height}
    results = []
    for item in objects:
        packed = encode(item.mask, left=item.left, top=item.top, **size)
        label = names[item.category]
        value = {"format": "rle", "rle": packed, "brushlabels": [label]}
        result = {
            "id": f"annotation-{item.annotation_id}",
            "type": "brushlabels",
            "from_name": _LABELS,
            "to_name": _IMAGE,
            "original_width": image.width,
            "original_height": image.height,
            "image_rotation": 0,
            "value": value,
        }
        results.append(result | ({} if item.score is None else {"score": item.score}))
    report.wrote(len(objects))
    scores = [item.score for item in objects if item.score is not None]
    prediction: dict[str, Any] = {"model_version": version, "result": results}
    if scores:
        prediction["score"] = float(np.mean(scores))
    name = prefix + quote(image.file_name) if prefix else image.file_name
    return {"data": {_IMAGE: name}, "predictions": [prediction]}


def _model_version(provenance: dict[str, Any]) -> str:
    known = (provenance.get("version"), provenance.get("commit"))
    return " ".join(["exits_jax", *(str(part) for part in known if part)])


def _write_config(path: Path, names: list[str]) -> None:
    with Xml(path) as xml, xml.element("View"):
        with xml.element("Image", {"name": _IMAGE, "value": f"${_IMAGE}"}):
            pass
        with xml.element("BrushLabels", {"name": _LABELS, "toName": _IMAGE}):
            for name in names:
                with xml.element("Label", {"value": name}):
                    pass
