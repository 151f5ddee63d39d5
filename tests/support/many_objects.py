"""Many small objects on few images, and a run that is trained as far as it must be."""

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from exits_jax import exit_status, main
from tests.support import toy

WIDTH, HEIGHT, CELL = 160, 128, 32
PER_IMAGE = (WIDTH // CELL) * (HEIGHT // CELL)  # 20


def write_dataset(folder: Path, *, num_objects: int) -> Path:
    """Ellipses on a lattice; returns the annotation file, which has no masks."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(num_objects)
    images, annotations = [], []
    for image_id in range(1, -(-num_objects // PER_IMAGE) + 1):
        pixels = rng.integers(0, 90, (HEIGHT, WIDTH, 3), np.uint8)
        count = min(PER_IMAGE, num_objects - len(annotations))
        for cell in range(count):
            row, column = divmod(cell, WIDTH // CELL)
            x, y = column * CELL + CELL // 2, row * CELL + CELL // 2
            a, b = (int(v) for v in rng.integers(6, 14, 2))
            color = rng.integers(120, 255, 3).tolist()
            cv2.ellipse(pixels, (x, y), (a, b), 0, 0, 360, color, -1)
            annotations.append(
                {
                    "id": 1000 * image_id + cell,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [x - a, y - b, 2 * a + 1, 2 * b + 1],
                    "iscrowd": 0,
                    "extreme_points": [[x, y - b], [x - a, y], [x, y + b], [x + a, y]],
                }
            )
        name = f"{image_id}.png"
        Image.fromarray(pixels).save(folder / "images" / name)
        size = {"width": WIDTH, "height": HEIGHT}
        images.append({"id": image_id, "file_name": name, **size})
    categories = [{"id": 1, "name": "ellipse"}]
    source = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "annotations.json"
    path.write_text(json.dumps(source))
    return path


def config_for(folder: Path, workdir: Path, **changes):
    """The least training that leaves a generator behind."""
    least = {
        "loss__method": "mil_crf",
        "loss__crf_rounds": 1,
        "data__min_area_px": 0.0,
        "crop__size": 32,
        "model__position_grid": 4,
        "train__steps": 1,
    }
    return toy.config_for(folder, workdir, **(least | changes))


def train(config) -> None:
    """Every phase before generate."""
    for phase in ("prepare", "pretrain", "warmup", "train"):
        assert main.run(config, phase) == exit_status.OK


def accounted_for(folder: Path, annotations: Path) -> bool:
    """Whether every annotation has a mask or a reason, once."""
    ids = [r["id"] for r in json.loads(annotations.read_text())["annotations"]]
    masks = json.loads((folder / "pseudo_masks.json").read_text())["annotations"]
    skipped = json.loads((folder / "skipped.json").read_text())
    return sorted(record["id"] for record in [*masks, *skipped]) == sorted(ids)
