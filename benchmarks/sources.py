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
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import cv2
import grain
import numpy as np

from benchmarks.torch_crops import torch_batches
from exits_jax.data.annotations import read_instances
from exits_jax.data.batches import CropOptions, trainable
from exits_jax.data.samples import SampleReader
from exits_jax.data.stream import Batch, start
from exits_jax.shards.builder import ExitsCustom, Source
from exits_jax.shards.reader import ShardedImages, attach

TORCH = "torch DataLoader"
Rates = dict[str, list[float]]


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
        wall, cpu = _measure(sources, options.rounds, options.seconds, batch, workers)
    _print_table(wall, cpu, workers)


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


def _batches(reader: SampleReader, batch: int, workers: int) -> Iterator[Batch]:
    order = np.random.default_rng(0).permutation(len(reader))
    numbers = grain.MapDataset.range(10**6).map(_Build(reader, order, batch))
    threads = 1 if workers else 0  # 0: a batch is built when it is asked for
    with closing(start(numbers, workers, threads, 2)) as batches:
        yield from batches


def _measure(
    sources: dict[str, Callable[[], Iterator[object]]],
    rounds: int,
    seconds: float,
    batch: int,
    workers: int,
) -> tuple[Rates, Rates]:
    """Samples per second and per CPU second of this process; a turn each per round."""
    wall: Rates = {name: [] for name in sources}
    cpu: Rates = {name: [] for name in sources}
    for number in range(rounds):
        order = list(sources)[number % len(sources) :]
        order += [name for name in sources if name not in order]
        for name in order:
            batches = sources[name]()
            # What starts and what is made ahead would count as free.
            for _ in range(1 + 4 * workers):
                next(batches)
            start_s, start_cpu_s = time.perf_counter(), time.process_time()
            elapsed = count = 0
            while elapsed < seconds:
                next(batches)
                count += 1
                elapsed = time.perf_counter() - start_s
            share = max(workers, 1)
            wall[name].append(count * batch / elapsed / share)
            cpu[name].append(count * batch / (time.process_time() - start_cpu_s))
            batches.close()  # type: ignore[attr-defined]
    return wall, cpu


def _print_table(wall: Rates, cpu: Rates, workers: int) -> None:
    """A row per source; CPU seconds only where all work is done in this process."""
    print(
        "| source | samples/s per core, median | min to max | per CPU second | "
        f"ratio to {TORCH}, median of rounds |"
    )
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, rates in wall.items():
        ratios = [rate / other for rate, other in zip(rates, wall[TORCH])]
        in_cpu = "-" if workers else f"{statistics.median(cpu[name]):.1f}"
        print(
            f"| {name} | {statistics.median(rates):.1f} | {min(rates):.1f} to "
            f"{max(rates):.1f} | {in_cpu} | {statistics.median(ratios):.2f} |"
        )


def _without_masks(annotations: Path, path: Path) -> Path:
    """Writes the annotation file without its masks."""
    source = json.loads(annotations.read_text(encoding="utf-8"))
    for record in source["annotations"]:
        record.pop("segmentation", None)
    path.write_text(json.dumps(source), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
