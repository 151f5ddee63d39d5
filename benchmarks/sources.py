"""Training samples per second and core: image folder, shards, a plain torch DataLoader.

Run:  python -m benchmarks.sources --images DIR --annotations FILE.json

The annotations may hold masks: they are left aside before anything is read. The three
take turns, so that what else the machine does falls on all of them; files are in the
page cache from the first turn on. With --workers=0 each works in this process, on one
thread; otherwise each has that many processes, and rates are divided by their number.
The DataLoader does the same work, written with Pillow and torch alone (benchmarks/
torch_crops.py). Needs the extra `convert` for torch.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import cv2
import grain
import numpy as np

from benchmarks.common.rates import measure, table
from benchmarks.plain_torch.torch_crops import torch_batches
from exits_jax.batch import Batch
from exits_jax.data.annotations import read_instances
from exits_jax.data.batches import trainable
from exits_jax.data.samples import CropOptions, SampleReader
from exits_jax.data.workers import start
from exits_jax.shards.builder import ExitsCustom
from exits_jax.shards.reader import ShardedImages, attach
from exits_jax.shards.source import Source

TORCH = "torch DataLoader"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="folder of the images")
    parser.add_argument("--annotations", required=True, help="COCO instances JSON")
    parser.add_argument("--crop_size", type=int, default=512, help="px")
    parser.add_argument("--batch", type=int, default=16, help="rows of a batch")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--workers", type=int, default=0, help="processes of each")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        bare = _without_masks(Path(options.annotations), Path(folder) / "train.json")
        source = Source(bare, Path(options.images))
        instances = trainable(read_instances(bare, options.images).instances)
        began = time.perf_counter()
        packed = ExitsCustom(data_dir=folder, sources={"train": source}).pack()
        packing_s = time.perf_counter() - began
        shards = ShardedImages(packed.folder)
        crop = CropOptions(crop_size=options.crop_size)
        print(
            f"{len(instances)} instances, {packed.records} images, "
            f"{packed.bytes / 2**20:.0f} MB in {packed.shards} shards (packed in "
            f"{packing_s:.1f} s), crop {crop.crop_size} px, batch {options.batch}, "
            f"{options.workers} workers, {os.cpu_count()} cores\n"
        )
        files = SampleReader(instances, crop)
        records = SampleReader(attach(instances, shards, options.images), crop)
        workers, batch = options.workers, options.batch
        sources = {
            "folder": lambda: _batches(files, batch, workers),
            "ArrayRecord": lambda: _batches(records, batch, workers),
            TORCH: lambda: torch_batches(instances, crop, batch, workers),
        }
        rates = measure(
            sources,
            rounds=options.rounds,
            seconds=options.seconds,
            batch=batch,
            workers=workers,
        )
    print(table(rates, TORCH, workers=workers))


class _Build(NamedTuple):
    """A batch of training samples by its number, as training builds it."""

    reader: SampleReader
    order: np.ndarray
    batch: int

    def __call__(self, number: int) -> Batch:
        places = range(number * self.batch, (number + 1) * self.batch)
        size = len(self.order)
        samples = [
            self.reader.train_sample(0, place // size, int(self.order[place % size]))
            for place in places
        ]
        return {name: np.stack([s[name] for s in samples]) for name in samples[0]}


def _batches(
    reader: SampleReader, batch: int, workers: int
) -> Generator[Batch, None, None]:
    order = np.random.default_rng(0).permutation(len(reader))
    numbers = grain.MapDataset.range(10**6).map(_Build(reader, order, batch))
    threads = 1 if workers else 0  # 0: a batch is built when it is asked for
    with closing(start(numbers, workers, threads, 2)) as batches:
        yield from batches


def _without_masks(annotations: Path, path: Path) -> Path:
    """Writes the annotation file without its masks."""
    source = json.loads(annotations.read_text(encoding="utf-8"))
    for record in source["annotations"]:
        record.pop("segmentation", None)
    path.write_text(json.dumps(source), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
