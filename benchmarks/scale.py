"""A million annotations: time and memory of reading, checking and writing them.

Run:  python -m benchmarks.scale --folder DIR [--annotations 1000000] [--images 120000]

It writes COCO instances JSONs and images, then runs each part in a process of its own
and prints its seconds and its largest resident memory.
"""

import argparse
import io
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from exits_jax.data.annotations import read_instances
from exits_jax.data.batches import trainable
from exits_jax.data.coco_file import CocoFile
from exits_jax.data.extreme_points import points_of_record
from exits_jax.data.rle import encode
from exits_jax.data.table import Instances
from exits_jax.files.json_files import json_text, write_json_lists
from exits_jax.labeling.pseudo_masks import PseudoInstance, write_coco

WIDTH, HEIGHT = 640, 480


def main() -> None:
    """Makes the files where they are missing, runs the parts, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True, help="for about 3 GB of files")
    parser.add_argument("--annotations", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=120_000)
    parser.add_argument("--part", choices=list(PARTS), help="run one part here")
    options = parser.parse_args()
    folder = Path(options.folder)
    if options.part:
        started = time.perf_counter()
        note = PARTS[options.part](folder)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak": peak, "note": note}))
        return
    draw(folder, options.annotations, options.images)
    for kind in ("points", "polygons"):
        size = (folder / f"{kind}.json").stat().st_size
        print(f"{kind}.json: {size / 2**20:.0f} MiB", flush=True)
    print("\n| part | seconds | peak memory, GiB | result |\n| --- | --- | --- | --- |")
    for name in PARTS:
        command = [sys.executable, "-m", "benchmarks.scale", "--folder", str(folder)]
        done = subprocess.run(
            [*command, "--part", name], check=True, capture_output=True, text=True
        )
        row = json.loads(done.stdout.splitlines()[-1])
        peak = row["peak"] / 2**30
        print(f"| {name} | {row['seconds']:.1f} | {peak:.2f} | {row['note']} |")


def draw(folder: Path, num_annotations: int, num_images: int) -> None:
    """The two annotation files and the images, unless they are there."""
    images = folder / "images"
    if images.is_dir() and (folder / "polygons.json").exists():
        return
    images.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (HEIGHT // 16, WIDTH // 16, 3), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).resize((WIDTH, HEIGHT)).save(encoded, "JPEG", quality=30)
    for number in range(1, num_images + 1):
        (images / f"{number:012d}.jpg").write_bytes(encoded.getvalue())
    header = {"categories": [{"id": k, "name": f"class {k}"} for k in range(1, 81)]}
    for kind in ("points", "polygons"):
        records = _records(kind, num_annotations, num_images)
        image_rows = (_image(number) for number in range(1, num_images + 1))
        write_json_lists(
            folder / f"{kind}.json",
            header,
            {"images": map(json_text, image_rows), "annotations": records},
        )


def _image(number: int) -> dict:
    name = f"{number:012d}.jpg"
    url = f"http://images.example/train2017/{name}"
    size = {"width": WIDTH, "height": HEIGHT}
    return {"id": number, "file_name": name, **size, "coco_url": url, "license": 1}


def _records(kind: str, num_annotations: int, num_images: int) -> Iterator[str]:
    """Records like COCO's: ellipses of 12 to 40 vertices, or their extreme points."""
    rng = np.random.default_rng(1)
    for number in range(num_annotations):
        x, y = rng.uniform(60, WIDTH - 60), rng.uniform(60, HEIGHT - 60)
        a, b = rng.uniform(4, 58, 2)
        record = {
            "id": number + 1,
            "image_id": number % num_images + 1,
            "category_id": number % 80 + 1,
            "iscrowd": 0,
            "area": round(float(np.pi * a * b), 2),
            "bbox": [round(float(v), 2) for v in (x - a, y - b, 2 * a, 2 * b)],
        }
        if kind == "points":
            points = [(x, y - b), (x - a, y), (x, y + b), (x + a, y)]
            record["extreme_points"] = [[int(u), int(v)] for u, v in points]
        else:
            angle = np.linspace(0, 2 * np.pi, int(rng.integers(12, 41)), endpoint=False)
            ring = np.stack([x + a * np.cos(angle), y + b * np.sin(angle)], axis=1)
            record["segmentation"] = [ring.ravel().round(2).tolist()]
        yield json.dumps(record)


def _read(kind: str, folder: Path) -> str:
    """Reads, checks every record and every image header, and keeps the columns."""
    from exits_jax.phases.prepare import check_images

    points_of = partial(points_of_record, mode="extremenet")
    found = read_instances(
        folder / f"{kind}.json", folder / "images", points_of=points_of
    )
    kept, problems = check_images(found.instances, full=False)
    shutil.rmtree(folder / f"{kind}_columns", ignore_errors=True)
    columns = kept.save(folder / f"{kind}_columns")
    return f"{len(columns)} objects, {len(found.skipped) + len(problems)} problems"


def _index(folder: Path) -> str:
    """What every later phase does: opens the columns and chooses what to train on."""
    found = Instances.open(folder / "points_columns")
    size = sum(file.stat().st_size for file in (folder / "points_columns").iterdir())
    kept = len(trainable(found))
    return f"{kept} of {len(found)} to train on, {size / 2**20:.0f} MiB on the disk"


def _write(folder: Path) -> str:
    """Writes the pseudo masks of all records."""
    source = CocoFile.read(folder / "points.json")
    mask = np.zeros((HEIGHT, WIDTH), bool)
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    mask[((rows - 200) / 90) ** 2 + ((columns - 300) / 60) ** 2 < 1] = True
    rle = encode(mask)
    outcomes = (
        (row, PseudoInstance(row + 1, rle, 0.9, (1, 1, 1, 1), 0.8, 1, ()))
        for row in range(len(source.annotations))
    )
    write_coco(folder / "out", source, outcomes, {"version": "benchmark"})
    size = (folder / "out" / "pseudo_masks.json").stat().st_size
    return f"pseudo_masks.json, {size / 2**20:.0f} MiB"


PARTS = {
    "read and check, extreme points": partial(_read, "points"),
    "read and check, polygons to points": partial(_read, "polygons"),
    "open the columns": _index,
    "write the pseudo masks": _write,
}


if __name__ == "__main__":
    main()
