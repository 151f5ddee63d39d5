"""How many training samples the host makes, and how many an accelerator needs.

Run:  python -m benchmarks.input [--images DIR --annotations FILE.json]

Without photographs, scenes are drawn and stored as JPEG. Four tables: stages of a
sample on one core; the whole pipeline as training runs it, without the first batches,
in which threads and workers start; ours and a torch DataLoader with the same
transforms (benchmarks/plain_torch/torch_crops.py) in turns, where a ratio of times of
at most 0.8 is wanted; and the cores that one accelerator keeps busy. "On the device"
is `augment.on_device`: the host draws the photometric change and the accelerator makes
it. Needs the extra `convert` for torch.
"""

import argparse
import functools
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from benchmarks.aot.targets import H100, V5E, V5P, V6E
from benchmarks.common.rates import Rates, measure, table
from benchmarks.flops import sizes_of, step_flops
from benchmarks.plain_torch.torch_crops import torch_batches
from configs import coco
from exits_jax.data import crops
from exits_jax.data.annotations import read_instances
from exits_jax.data.augment import Photometric, change_arrays, draw_changes
from exits_jax.data.batches import train_batches, trainable
from exits_jax.data.images import read_image
from exits_jax.data.records import Instance
from exits_jax.data.samples import CropOptions, SampleReader
from exits_jax.data.table import Instances
from exits_jax.data.workers import BatchIterator
from exits_jax.datasets.scenes import draw_scene
from exits_jax.ops.photometric import Changes, student_view

HOST, DEVICE, TORCH = "ours", "ours, on the device", "torch DataLoader"
UTILISATION = 0.4  # share of its peak that an accelerator is assumed to reach


def main() -> None:
    """Prints the tables."""
    options = _flags()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.annotations:
            found = read_instances(options.annotations, options.images).instances
            what = f"photographs of {options.images}"
        else:
            found, what = _scenes(Path(folder)), "drawn scenes"
        objects = trainable(found).save(Path(folder) / "columns")
        host = CropOptions(crop_size=options.crop_size, cache_mb=options.cache_mb)
        print(
            f"{len(objects)} objects in {len(set(objects.image.tolist()))} {what}, "
            f"crop {host.crop_size} px, batch {options.batch}, cache {host.cache_mb} "
            f"MB, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
        )
        _print_stages(objects, host, options)
        _print_pipelines(objects, host, options)
        rates = _compare(objects, host, options)
    op_s = _device_seconds(options)
    print(
        f"Making the student's view on {jax.devices()[0].device_kind}: "
        f"{1000 * op_s:.1f} ms per image\n"
    )
    _print_needs(options, rates[HOST], rates[DEVICE])


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", help="folder of photographs")
    parser.add_argument("--annotations", help="their COCO instances JSON")
    parser.add_argument("--crop_size", type=int, default=512, help="px")
    parser.add_argument("--batch", type=int, default=16, help="rows of a batch")
    parser.add_argument("--cache_mb", type=int, default=0, help="per process")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each source")
    parser.add_argument(
        "--workers", type=int, default=0, help="processes of each compared source"
    )
    parser.add_argument(
        "--flops_per_image",
        type=float,
        help="of a training step; as counted for configs/coco.py if not given",
    )
    options = parser.parse_args()
    if (options.images is None) != (options.annotations is None):
        parser.error("--images and --annotations belong together")
    return options


def _scenes(folder: Path, *, count: int = 24, size: int = 512) -> Instances:
    """Drawn scenes of about the size of a photograph."""
    rng, objects = np.random.default_rng(0), []
    for image in range(count):
        pixels, masks = draw_scene(rng, size)
        path = folder / f"{image}.jpg"
        Image.fromarray(pixels).save(path, quality=90)
        for _, mask in masks:
            x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
            box = (float(x), float(y), float(x + width), float(y + height))
            objects.append(
                Instance(
                    annotation_id=len(objects),
                    image_id=image,
                    category_id=1,
                    image_path=str(path),
                    image_size=(size, size),
                    extreme_points=None,
                    box=box,
                    is_crowd=False,
                    flags=(),
                )
            )
    return Instances.of(objects)


def _print_stages(
    objects: Instances, host: CropOptions, options: argparse.Namespace
) -> None:
    """What one core does for a sample, each row with the ones before it."""
    order = np.random.default_rng(0).permutation(len(objects))
    at = lambda i: int(order[i % len(order)])
    readers = {
        on_device: SampleReader(objects, host._replace(on_device=on_device))
        for on_device in (False, True)
    }

    def decode(i: int) -> np.ndarray:
        return read_image(objects.paths[int(objects.image[at(i)])])

    def decode_and_crop(i: int) -> np.ndarray:
        margins = crops.train_margins(np.random.default_rng(i), host.train_margin)
        window = crops.crop_window(objects.boxes[at(i)], margins)
        return crops.crop_image(decode(i), window, host.crop_size)

    stages: dict[str, Callable[[int], object]] = {
        "decode": decode,
        "decode and crop": decode_and_crop,
        "sample, its change left to the device": (
            lambda i: readers[True].train_sample(0, i // len(order), at(i))
        ),
        "sample, both views": (
            lambda i: readers[False].train_sample(0, i // len(order), at(i))
        ),
    }
    print("| one core | samples per CPU second | ms |\n| --- | ---: | ---: |")
    for name, work in stages.items():
        seconds = _cpu_seconds(work, options.seconds)
        print(f"| {name} | {1 / seconds:.0f} | {1000 * seconds:.2f} |", flush=True)
    print()


def _cpu_seconds(work: Callable[[int], object], seconds: float) -> float:
    for i in range(5):
        work(i)
    start = time.process_time()
    for count in itertools.count(1):
        work(count)
        if (elapsed := time.process_time() - start) > seconds:
            return elapsed / count
    raise AssertionError("unreachable")


def _print_pipelines(
    objects: Instances, host: CropOptions, options: argparse.Namespace
) -> None:
    print("| pipeline | samples/s, both views | change left to the device |")
    print("| --- | ---: | ---: |")
    for workers, threads in ((0, 1), (0, 2), (1, 1), (2, 1)):
        found = [
            _pipeline_rate(
                functools.partial(
                    _ours, objects, crop, options.batch, workers, threads
                ),
                batch=options.batch,
                skipped=4 + 4 * workers,
                seconds=options.seconds,
            )
            for crop in (host, host._replace(on_device=True))
        ]
        name = f"{workers} workers, {threads} threads each"
        if not workers:
            name = f"{threads} threads of this process"
        print(f"| {name} | {found[0]:.0f} | {found[1]:.0f} |", flush=True)
    print()


def _ours(
    objects: Instances, crop: CropOptions, batch: int, workers: int, threads: int
) -> BatchIterator:
    return train_batches(
        objects,
        crop,
        seed=0,
        global_batch=batch,
        start_step=0,
        num_steps=10**6,
        num_workers=workers,
        num_threads=threads,
        prefetch=2,
    )


def _pipeline_rate(
    open_source: Callable[[], BatchIterator],
    *,
    batch: int,
    skipped: int,
    seconds: float,
) -> float:
    batches = open_source()
    for _ in range(skipped):  # twice what is made ahead, which would count as free
        next(batches)
    start = time.perf_counter()
    elapsed = count = 0
    while elapsed < seconds:
        next(batches)
        count += batch
        elapsed = time.perf_counter() - start
    batches.close()
    return count / elapsed


def _compare(
    objects: Instances, host: CropOptions, options: argparse.Namespace
) -> dict[str, Rates]:
    """Ours and the DataLoader, which keeps no decoded image, in turns."""
    batch, workers = options.batch, options.workers
    threads = 1 if workers else 0  # 0: a batch is made when it is asked for
    bare = host._replace(cache_mb=0)
    sources = {
        HOST: lambda: _ours(objects, bare, batch, workers, threads),
        DEVICE: lambda: _ours(
            objects, bare._replace(on_device=True), batch, workers, threads
        ),
        TORCH: lambda: torch_batches(objects, bare, batch, workers),
    }
    rates = measure(
        sources,
        rounds=options.rounds,
        seconds=options.seconds,
        batch=batch,
        workers=workers,
    )
    print(f"{workers} workers each; wanted: a time ratio of at most 0.8\n")
    print(table(rates, TORCH, workers=workers), end="\n\n")
    return rates


def _device_seconds(options: argparse.Namespace) -> float:
    """Time per image of the changes as the first device here makes them."""
    rng, look = np.random.default_rng(0), Photometric()
    rows = [change_arrays(draw_changes(rng, look), look) for _ in range(options.batch)]
    stacked = lambda name: jnp.asarray(np.stack([row[name] for row in rows]))
    changes = Changes(*map(stacked, Changes._fields))
    shape = (options.batch, options.crop_size, options.crop_size, 3)
    images = jnp.asarray(rng.integers(0, 256, shape, np.uint8))
    view = jax.jit(student_view)
    jax.block_until_ready(view(images, changes))
    times = []
    for _ in range(options.rounds):
        start = time.perf_counter()
        jax.block_until_ready(view(images, changes))
        times.append(time.perf_counter() - start)
    return statistics.median(times) / options.batch


def _print_needs(options: argparse.Namespace, host: Rates, device: Rates) -> None:
    """Images per second and cores for one accelerator, from peaks and a utilisation."""
    flops = options.flops_per_image
    if flops is None:
        config = coco.get_config()
        config.crop.size = options.crop_size
        flops = step_flops(sizes_of(config)).model
    pixels = 3 * options.crop_size**2  # bytes of a view
    print(
        f"{flops / 1e9:.0f} GFLOP per image and step, {UTILISATION:.0%} of the peak\n"
    )
    print(
        "| accelerator | images/s | cores, both views | change left to the device | "
        "MB/s of pixels, both views | one view |\n| --- " + "| ---: " * 5 + "|"
    )
    # CPU seconds do not grow with what else the machine does.
    of_core = [r.wall if options.workers else r.cpu for r in (host, device)]
    for chip in (V5E, V6E, V5P, H100):
        rate = UTILISATION * chip.bf16_flops / flops
        cores = [rate / statistics.median(r) for r in of_core]
        print(
            f"| {chip.kind} | {rate:.0f} | {cores[0]:.1f} | {cores[1]:.1f} | "
            f"{2 * rate * pixels / 1e6:.0f} | {rate * pixels / 1e6:.0f} |"
        )


if __name__ == "__main__":
    main()
