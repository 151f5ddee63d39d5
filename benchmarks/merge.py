"""Merging the parts of a labeled split: seconds and memory.

Run:  python -m benchmarks.merge --folder DIR [--objects 860000] [--images 120000]

It makes an annotation file and parts of drawn masks where they are missing (about
1 GB), merges them in a process of its own, and prints its seconds and its largest
resident memory beside those of a merge of a hundredth.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from exits_jax.data.coco_file import CocoFile
from exits_jax.data.rle import encode
from exits_jax.files.json_files import json_text, write_json_lists
from exits_jax.labeling.merge import merge
from exits_jax.labeling.part_files import Parts, find_kept, write_part
from exits_jax.labeling.pseudo_masks import PseudoInstance

WIDTH, HEIGHT = 640, 480
PART_SIZE = 512


def main() -> None:
    """Makes the files where they are missing, merges them, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True, help="for about 2 GB of files")
    parser.add_argument("--objects", type=int, default=860_000)
    parser.add_argument("--images", type=int, default=120_000)
    parser.add_argument("--here", action="store_true", help="merge in this process")
    options = parser.parse_args()
    folder = Path(options.folder) / str(options.objects)
    if options.here:
        print(json.dumps(measure(folder, options.objects)))
        return
    print("| objects | parts, MiB | find what is kept, s | merge, s | peak, GiB |")
    print("| --- | --- | --- | --- | --- |")
    for share in (100, 1):
        row = _run(Path(options.folder), options.objects, options.images, share)
        print(
            f"| {row['objects']} | {row['parts'] / 2**20:.0f} | {row['find']:.1f} | "
            f"{row['merge']:.1f} | {row['peak'] / 2**30:.2f} |",
            flush=True,
        )


def draw(folder: Path, num_objects: int, num_images: int) -> None:
    """The annotation file and the parts, unless they are there."""
    parts = parts_in(folder, num_objects)
    if len(find_kept(parts)) == parts.num_parts:
        return
    images = (
        {"id": k, "file_name": f"{k:012d}.jpg", "width": WIDTH, "height": HEIGHT}
        for k in range(1, num_images + 1)
    )
    records = (json.dumps(_record(row, num_images)) for row in range(num_objects))
    write_json_lists(
        folder / "annotations.json",
        {"categories": [{"id": 1, "name": "thing"}]},
        {"images": map(json_text, images), "annotations": records},
    )
    masks = [encode(mask) for mask in _ellipses(512)]
    for part in range(parts.num_parts):
        rows = parts.rows(part)
        write_part(parts, part, ((row, _outcome(row, masks)) for row in rows))


def parts_in(folder: Path, num_objects: int) -> Parts:
    """The parts of the benchmark."""
    return Parts(folder / "parts", "train", num_objects, PART_SIZE, {"masks": "drawn"})


def measure(folder: Path, num_objects: int) -> dict[str, float]:
    """What a restart and the merge take."""
    parts = parts_in(folder, num_objects)
    started = time.perf_counter()
    find_kept(parts)
    found = time.perf_counter()
    source = CocoFile.read(folder / "annotations.json")
    positions = np.arange(num_objects)
    merge(folder / "out", source, parts, positions, [], {}, max_unreadable=0.5)
    return {
        "objects": num_objects,
        "parts": sum(path.stat().st_size for path in parts.folder.iterdir()),
        "find": found - started,
        "merge": time.perf_counter() - found,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _run(folder: Path, num_objects: int, num_images: int, share: int) -> dict:
    """Measures a share of the objects in a fresh process."""
    num_objects, num_images = num_objects // share, max(1, num_images // share)
    draw(folder / str(num_objects), num_objects, num_images)
    command = [sys.executable, "-m", "benchmarks.merge", "--folder", str(folder)]
    done = subprocess.run(
        [*command, "--objects", str(num_objects), "--here"],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def _record(row: int, num_images: int) -> dict:
    points = [[20, 10], [10, 20], [20, 30], [30, 20]]
    return {
        "id": row + 1,
        "image_id": row % num_images + 1,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [10.25, 10.5, 20.75, 20.5],
        "extreme_points": points,
    }


def _ellipses(count: int) -> Iterator[np.ndarray]:
    """Masks of the sizes that COCO's objects have, with a ragged edge."""
    rng = np.random.default_rng(0)
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    for _ in range(count):
        y, x = rng.uniform(0.2, 0.8, 2) * (HEIGHT, WIDTH)
        a, b = np.exp(rng.uniform(np.log(5), np.log(140), 2))
        edge = 1 + rng.normal(0, 0.05, (HEIGHT, WIDTH))
        yield ((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 < edge


def _outcome(row: int, masks: list) -> PseudoInstance:
    score = 0.5 + (row % 1009) / 2018
    rle = masks[row % len(masks)]
    return PseudoInstance(row + 1, rle, score, (1, 1, 0, 1), score, 1, ())


if __name__ == "__main__":
    main()
