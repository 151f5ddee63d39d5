"""Prepared data sets of noise, in which every kind of record and name occurs."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from exits_jax.shards.builder import ExitsCoco
from exits_jax.shards.source import Source

WIDTH, HEIGHT = 400, 330  # as PNG about 400 kB of noise: two or three in 1 MB
NAMES = (
    "0001.png",
    "a b.png",
    "übung/мир 図.png",
    "nobody.png",
    "deep/er/🐈.png",
    "0006.png",
)


def write_source(folder: Path, *, text_ids: bool = False) -> dict:
    """Six images, of which `nobody.png` has no object; ids are texts on request."""
    rng = np.random.default_rng(0)
    kind = (lambda number: f"id/{number}") if text_ids else int
    images, annotations = [], []
    for number, name in enumerate(NAMES, start=1):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        images.append(
            {
                "id": kind(number),
                "file_name": name,
                "width": WIDTH,
                "height": HEIGHT,
                "license": 3,
            }
        )
        if name == "nobody.png":
            continue
        common = {"image_id": kind(number), "iscrowd": 0}
        x = 10 * number
        points = [[x + 40, 20], [x, 60.5], [x + 30, 120], [x + 90, 80]]
        annotations += [
            {"id": kind(10 * number), "category_id": 17, "extreme_points": points},
            {"id": kind(10 * number + 1), "category_id": 5, "bbox": [x, 7, 50.25, 60]},
        ]
        for record in annotations[-2:]:
            record |= common
    annotations[-1]["iscrowd"] = 1
    source = {
        "info": {"description": "noise"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 17, "name": "cat"}, {"id": 5, "name": "dog"}],
    }
    write_annotations(folder, source)
    return source


def write_annotations(folder: Path, source: dict) -> None:
    text = json.dumps(source, ensure_ascii=False)
    (folder / "train.json").write_text(text, encoding="utf-8")


def builder(folder: Path, out: Path, kind: type = ExitsCoco):
    """The builder of the data set of a folder, one shard per two or three images."""
    source = Source(folder / "train.json", folder / "images")
    return kind(data_dir=out, sources={"train": source})


def pack(folder: Path, out: Path, **options):
    """Packs a folder into shards of 1 MB; returns the version folder."""
    return Path(builder(folder, out).pack(shard_mb=1, **options).folder)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
