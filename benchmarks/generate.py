"""Masks per CPU second of phase `generate`, on small and large images, in turn.

python -m benchmarks.generate --folder DIR [--against CHECKOUT] [--rounds 3]

The model of configs/tiny.py, trained for two steps, labels drawn images of ten objects
each; what a few images take is subtracted, so that imports and compilation do not
count. Each call is a process of its own. Where another checkout of this project is
given, it takes turns with this one, and the run lengths of both are compared.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

PER_IMAGE = 10
SIZES = {"640 x 480": (640, 480, 120), "6000 x 4000": (6000, 4000, 10)}
_FEW = 2  # images whose labelling is what any process takes

# Of any version: prepares, trains for two steps, and times the labelling.
_RUN = """
import os, sys
from configs import tiny
from exits_jax import main
data, workdir = sys.argv[1:]
config = tiny.get_config()
config.workdir, config.batch_size = workdir, 4
config.data.train, config.data.images = data + "/annotations.json", data + "/images"
config.data.scenes.num_train = config.data.scenes.num_val = 0
config.warmup.steps = config.train.steps = 2
config.train.start_steps = 0
config.pretrain.enabled = config.similarity.select = False
for phase in ("prepare", "warmup", "train"):
    assert main.run(config, phase) == 0, phase
before = os.times()
assert main.run(config, "generate") == 0
now = os.times()
print(now.user + now.system - before.user - before.system)
"""


def main() -> None:
    """Draws what is missing, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="for 50 MB of files")
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    trees = [Path.cwd(), *([options.against.resolve()] if options.against else [])]
    print("| image | checkout | masks per CPU second | masks |")
    print("| --- | --- | ---: | ---: |")
    for name, (width, height, count) in SIZES.items():
        many = draw(options.folder / f"{width}", (width, height), count)
        few = draw(options.folder / f"{width}_few", (width, height), _FEW)
        rates: dict[Path, list[float]] = {tree: [] for tree in trees}
        for _ in range(options.rounds):
            for tree in trees:
                spent = cpu_seconds(tree, many) - cpu_seconds(tree, few)
                rates[tree].append((count - _FEW) * PER_IMAGE / spent)
        masks = [run_lengths(_workdir(tree, many)) for tree in trees]
        for tree, found in rates.items():
            rate = statistics.median(found)
            print(f"| {name} | {tree.name} | {rate:.1f} | {len(masks[0])} |")
        if len(masks) == 2:
            same = sum(mask == masks[1].get(key) for key, mask in masks[0].items())
            print(f"{name}: {same} of {len(masks[0])} have the same run lengths")


def cpu_seconds(tree: Path, data: Path) -> float:
    """Labels the images of a folder by a checkout."""
    workdir = _workdir(tree, data)
    shutil.rmtree(workdir, ignore_errors=True)
    command: Sequence[str] = (sys.executable, "-c", _RUN, str(data), str(workdir))
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout.splitlines()[-1])


def run_lengths(workdir: Path) -> dict[int, object]:
    """Masks by annotation."""
    document = json.loads((workdir / "pseudo_masks.json").read_text())
    return {each["id"]: each.get("segmentation") for each in document["annotations"]}


def draw(folder: Path, size: tuple[int, int], count: int) -> Path:
    """Images of soft blots with boxes and points, as COCO JSON."""
    if (folder / "annotations.json").exists():
        return folder.resolve()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    width, height = size
    rng = np.random.default_rng(0)
    blots = rng.integers(0, 255, (height // 16, width // 16, 3), np.uint8)
    images, records = [], []
    for number in range(1, count + 1):
        picture = Image.fromarray(np.roll(blots, 7 * number, axis=1)).resize(size)
        name = f"{number:04d}.jpg"
        picture.save(folder / "images" / name, quality=90)
        images.append(
            {"id": number, "file_name": name, "width": width, "height": height}
        )
        for _ in range(PER_IMAGE):
            w, h = (int(side * rng.uniform(0.15, 0.4)) for side in size)
            x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            middle, bottom, right = (x + w // 2, y + h // 2), y + h - 1, x + w - 1
            records.append(
                {
                    "id": len(records) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    "extreme_points": [
                        [middle[0], y], [x, middle[1]],
                        [middle[0], bottom], [right, middle[1]],
                    ],
                }
            )  # fmt: skip
    document = {
        "images": images,
        "annotations": records,
        "categories": [{"id": 1, "name": "blot"}],
    }
    (folder / "annotations.json").write_text(json.dumps(document))
    return folder.resolve()


def _workdir(tree: Path, data: Path) -> Path:
    return data.parent / f"run_{tree.name}_{data.name}"


if __name__ == "__main__":
    main()
