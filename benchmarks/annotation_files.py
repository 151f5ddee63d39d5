"""Time and memory of reading annotations: what each phase takes, here and elsewhere.

python -m benchmarks.annotation_files --folder DIR [--against CHECKOUT] [--rounds 3]

Two tables. The first is of `import`, `validate` and `prepare` for 200,000 annotations
on 60,000 images, each in a process of its own, and in turn with those of another
checkout of this project. The second is of rows of Open Images, a million by default,
and what that means for the 14.6 million of its training boxes.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.scale import HEIGHT, WIDTH, draw

OPEN_IMAGES = 14_610_229  # rows of oidv6-train-annotations-bbox.csv
_ROWS_PER_IMAGE = 8.4  # 14.6 million rows on 1.74 million images


class Cost(NamedTuple):
    """What a process took."""

    cpu_s: float
    wall_s: float
    peak_gib: float


def main() -> None:
    """Makes the files where they are missing, then prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="for 1 GB of files")
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--annotations", type=int, default=200_000)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of Open Images")
    options = parser.parse_args()
    trees = [Path.cwd(), *([options.against.resolve()] if options.against else [])]
    if options.annotations:
        draw(options.folder / "coco", options.annotations, options.images)
        compare(options.folder, trees, options.rounds)
    if options.rows:
        draw_rows(options.folder / "rows", options.rows)
        for tree in trees:
            cost = run_import(
                tree, options.folder, "open_images", "rows/rows.csv", "rows/images"
            )
            print(f"{tree.name}: {of_rows(cost, options.rows)}", flush=True)


def compare(folder: Path, trees: Sequence[Path], rounds: int) -> None:
    """Prints CPU seconds per phase and checkout, medians of alternating runs."""
    costs: dict[tuple[str, Path], list[Cost]] = {}
    for _ in range(rounds):
        for name in ("import", "validate", "prepare"):
            for tree in trees:
                if name == "import":
                    cost = run_import(
                        tree, folder, "extremenet", "coco/points.json", "coco/images"
                    )
                else:
                    cost = run_phase(
                        tree, folder, name, f"data.train={folder}/coco/points.json",
                        f"data.images={folder}/coco/images",
                    )  # fmt: skip
                costs.setdefault((name, tree), []).append(cost)
    print("| phase | checkout | CPU, s | seconds | peak, GiB |")
    print("| --- | --- | ---: | ---: | ---: |")
    for (name, tree), found in costs.items():
        values = [statistics.median(column) for column in zip(*found)]
        shown = " | ".join(f"{value:.1f}" for value in values[:2])
        print(f"| {name} | {tree.name} | {shown} | {values[2]:.2f} |", flush=True)


def run_import(tree: Path, folder: Path, kind: str, source: str, images: str) -> Cost:
    """Runs the phase import of a checkout, whatever its section is called."""
    is_old = "config.imports" not in (tree / "configs/base.py").read_text()
    section = "import" if is_old else "imports"
    return run_phase(
        tree, folder, "import", f"{section}.kind={kind}",
        f"{section}.source={folder}/{source}", f"data.images={folder}/{images}",
    )  # fmt: skip


def run_phase(tree: Path, folder: Path, phase: str, *values: str) -> Cost:
    """Runs a phase of a checkout in an empty work directory."""
    workdir = folder / "run"
    shutil.rmtree(workdir, ignore_errors=True)
    command = [sys.executable, "-m", "exits_jax.main", "--config=configs/custom.py"]
    command += [f"--workdir={workdir}", f"--phase={phase}"]
    command += [f"--config.{value}" for value in values]
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{said}")
    wall_s = time.perf_counter() - started
    cpu_s = usage.ru_utime + usage.ru_stime
    return Cost(cpu_s, wall_s, usage.ru_maxrss / 2**20)


def draw_rows(folder: Path, num_rows: int) -> None:
    """Rows as Open Images has them, and a file for each of their images."""
    if (folder / "rows.csv").exists():
        return
    import io

    from PIL import Image

    num_images = int(num_rows / _ROWS_PER_IMAGE)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    encoded = io.BytesIO()
    pixels = rng.integers(0, 256, (HEIGHT // 16, WIDTH // 16, 3), np.uint8)
    Image.fromarray(pixels).resize((WIDTH, HEIGHT)).save(encoded, "JPEG", quality=30)
    for number in range(num_images):
        (folder / "images" / f"{number:016x}.jpg").write_bytes(encoded.getvalue())
    header = ["ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded"]
    header += ["IsTruncated,IsGroupOf,IsDepiction,IsInside"]
    header += [f"XClick{n}{axis}" for axis in "XY" for n in (1, 2, 3, 4)]
    with (folder / "draft.csv").open("w") as file:
        file.write(",".join(header) + "\n")
        for row in range(num_rows):
            x, y = rng.uniform(0.1, 0.9, 2)
            a, b = rng.uniform(0.01, 0.09, 2)
            dx, dy = rng.uniform(-0.5, 0.5, 2)
            xs = [x + dx * a, x - a, x - dx * a, x + a]
            ys = [y - b, y + dy * b, y + b, y - dy * b]
            order = rng.permutation(4)
            marks = rng.random(5) < (0.3, 0.2, 0.005, 0.02, 0.01)
            cells = [
                f"{row * num_images // num_rows:016x}", "xclick",
                f"/m/{row * 7919 % 601:05x}", "1",
                *(f"{v:.6f}" for v in (x - a, x + a, y - b, y + b)),
                *(str(int(mark)) for mark in marks),
                *(f"{xs[k]:.6f}" for k in order), *(f"{ys[k]:.6f}" for k in order),
            ]  # fmt: skip
            file.write(",".join(cells) + "\n")
    os.replace(folder / "draft.csv", folder / "rows.csv")


def of_rows(cost: Cost, num_rows: int) -> str:
    """A sentence on the rows, and on all of Open Images at the same rate."""
    minutes = cost.cpu_s * OPEN_IMAGES / num_rows / 60
    return (
        f"{num_rows} rows of Open Images: {cost.cpu_s:.1f} s of CPU, "
        f"{cost.wall_s:.1f} s, {cost.peak_gib:.2f} GiB; {OPEN_IMAGES} rows at that "
        f"rate: {minutes:.1f} minutes of CPU"
    )


if __name__ == "__main__":
    main()
