"""How many training samples per second the host makes, stage by stage.

Run:  python -m benchmarks.input_pipeline --images DIR --annotations FILE.json

The upper rows use one core; the lower rows are the whole pipeline as training runs it,
without the first batches, in which threads and workers start.
"""

import argparse
import itertools
import os
import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from exits_jax.data import crops
from exits_jax.data.annotations import Instance, read_instances
from exits_jax.data.batches import CropOptions, train_batches, trainable
from exits_jax.data.images import read_image
from exits_jax.data.samples import SampleReader


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="folder of the images")
    parser.add_argument("--annotations", required=True, help="COCO instances JSON")
    parser.add_argument("--crop_size", type=int, default=512, help="px")
    parser.add_argument("--batch", type=int, default=16, help="rows of a batch")
    parser.add_argument("--seconds", type=float, default=2.0, help="time per row")
    parser.add_argument("--cache_mb", type=int, default=0, help="per process")
    options = parser.parse_args()

    instances = trainable(read_instances(options.annotations, options.images).instances)
    crop = CropOptions(crop_size=options.crop_size, cache_mb=options.cache_mb)
    print(
        f"{len(instances)} instances, crop {crop.crop_size} px, batch {options.batch}, "
        f"cache {crop.cache_mb} MB, {os.cpu_count()} cores\n"
    )
    print("| stage | samples/s | ms per sample |")
    print("| --- | ---: | ---: |")
    cv2.setNumThreads(1)
    for name, work in _stages(instances, crop):
        _print_row(f"{name}, 1 core", _calls_per_second(work, options.seconds))
    for num_workers, num_threads in ((0, 1), (0, 2), (1, 1), (2, 1)):
        rate = _pipeline_rate(
            instances, crop, options.batch, num_workers, num_threads, options.seconds
        )
        _print_row(f"pipeline, {num_workers} workers, {num_threads} threads", rate)


def _stages(
    instances: Sequence[Instance], options: CropOptions
) -> list[tuple[str, Callable[[int], object]]]:
    """What one core does for a sample, each stage with the ones before it."""
    reader = SampleReader(instances, options)
    order = np.random.default_rng(0).permutation(len(instances))

    def decode(i: int) -> np.ndarray:
        return read_image(instances[order[i % len(order)]].image_path)

    def decode_and_crop(i: int) -> np.ndarray:
        margins = crops.train_margins(np.random.default_rng(i), options.train_margin)
        window = crops.crop_window(instances[order[i % len(order)]].box, margins)
        return crops.crop_image(decode(i), window, options.crop_size)

    def sample(i: int) -> object:
        return reader.train_sample(0, i // len(order), int(order[i % len(order)]))

    return [
        ("decode", decode),
        ("decode + crop", decode_and_crop),
        ("training sample, both views", sample),
    ]


def _calls_per_second(work: Callable[[int], object], seconds: float) -> float:
    for i in range(5):
        work(i)
    start = time.perf_counter()
    for count in itertools.count(1):
        work(count)
        if (elapsed := time.perf_counter() - start) > seconds:
            return count / elapsed
    raise AssertionError("unreachable")


def _pipeline_rate(
    instances: Sequence[Instance],
    options: CropOptions,
    batch: int,
    num_workers: int,
    num_threads: int,
    seconds: float,
) -> float:
    batches = train_batches(
        instances,
        options,
        seed=0,
        global_batch=batch,
        start_step=0,
        num_steps=10**6,
        num_workers=num_workers,
        num_threads=num_threads,
        prefetch=2,
    )
    # Batches made ahead would count as free: leave out twice what is kept ready.
    for _ in range(4 + 4 * num_workers):
        next(batches)
    start = time.perf_counter()
    for count in itertools.count(1):
        next(batches)
        if (elapsed := time.perf_counter() - start) > seconds:
            batches.close()
            return count * batch / elapsed
    raise AssertionError("unreachable")


def _print_row(name: str, rate: float) -> None:
    print(f"| {name} | {rate:.0f} | {1000 / rate:.2f} |", flush=True)


if __name__ == "__main__":
    main()
