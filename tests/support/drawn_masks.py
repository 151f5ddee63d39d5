"""Drawn objects for the exporters, and a file of pseudo masks that holds them."""

import json
from pathlib import Path

import numpy as np

from exits_jax.data import rle
from exits_jax.data.coco_file import CocoFile
from exits_jax.exporters.formats import export
from exits_jax.exporters.mask_file import MaskFile
from exits_jax.exporters.masks import Options
from exits_jax.exporters.report import Report

HEIGHT, WIDTH = 60, 80
NAME = 'train2017/a & b <"ü">.jpg'
PROVENANCE = {"version": "1.0", "commit": "abc", "init_licence": "CC-BY-NC-4.0"}


def blank():
    return np.zeros((HEIGHT, WIDTH), bool)


def disc(x, y, radius):
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    return np.hypot(xs + 0.5 - x, ys + 0.5 - y) < radius


def box(left, top, right, bottom):
    mask = blank()
    mask[top:bottom, left:right] = True
    return mask


def two_parts():
    return disc(12, 14, 9) | disc(40, 14, 9)


def four_parts():
    return box(2, 40, 8, 46) | box(20, 40, 26, 46) | box(2, 52, 8, 58) | disc(23, 55, 3)


def with_holes():
    return disc(58, 36, 16) & ~disc(52, 34, 4) & ~disc(64, 40, 5)


def island():
    """A part within the hole of another."""
    return box(4, 26, 16, 38) & ~box(6, 28, 14, 36) | box(9, 31, 11, 33)


def touching_corners():
    return box(30, 26, 34, 30) | box(34, 30, 38, 34)


def pinched():
    """A ring that closes at a corner alone, so that its hole is open there."""
    return box(60, 2, 78, 20) & ~box(64, 6, 70, 12) & ~box(70, 12, 78, 16)


OBJECTS = {
    "two parts": two_parts(),
    "four parts": four_parts(),
    "holes": with_holes(),
    "two parts, nested": island(),
    "one pixel": box(0, 0, 1, 1),
    "one pixel inside": box(33, 44, 34, 45),
    "border": box(70, 50, WIDTH, HEIGHT),
    "touching corners": touching_corners(),
    "pinched": pinched(),
    "line": box(30, 56, 66, 57),
}


def content(masks, *, name=NAME, score=0.75, **changes):
    """The JSON of pseudo masks on one image, with a further image without objects."""
    records = [
        {
            "id": k + 1,
            "image_id": 7,
            "category_id": (9, 4)[k % 2],
            "segmentation": rle.encode(mask),
            "area": int(mask.sum()),
            "bbox": rle.bounding_box(rle.encode(mask)),
            "iscrowd": 0,
            "score": score,
            "exits": {"score": score, "flags": ["box_only"]},
            "note": "kept",
        }
        for k, mask in enumerate(masks)
    ]
    image = {"height": HEIGHT, "width": WIDTH}
    return {
        "info": {"year": 2024, "exits_jax": PROVENANCE},
        "images": [
            {"id": 7, "file_name": name, **image},
            {"id": 8, "file_name": "train2017/empty.jpg", **image},
        ],
        "categories": [{"id": 9, "name": 'dog & "cat"'}, {"id": 4, "name": "<zebra>"}],
        "annotations": records,
        **changes,
    }


def write(folder: Path, dataset) -> Path:
    path = folder / "pseudo_masks.json"
    path.write_text(json.dumps(dataset), "utf-8")
    return path


def exported(folder: Path, kind, dataset, *, min_score=0.0, **options):
    """Exports to `folder / kind`; returns that folder and the report."""
    path = write(folder, dataset)
    source = CocoFile.read(path)
    report = Report(kind, len(source.annotations))
    masks = MaskFile(
        source,
        report,
        path=path,
        images=options.get("images"),
        min_score=min_score,
    )
    export(masks, folder / kind, Options(**options), report)
    return folder / kind, json.loads((folder / kind / "export_report.json").read_text())


def warnings_of(report):
    return {entry["name"]: entry["count"] for entry in report["warnings"]}


def reasons_of(report):
    return {entry["id"]: entry["code"] for entry in report["left_out"]}


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def crowd(identity, mask):
    counts = np.diff(np.flatnonzero(np.diff(mask.T.ravel(), prepend=False)), prepend=0)
    counts = [*counts.tolist(), mask.size - int(counts.sum())]
    return {
        "id": identity,
        "image_id": 7,
        "category_id": 9,
        "iscrowd": 1,
        "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts},
        "exits": {"flags": ["crowd_kept"]},
    }
