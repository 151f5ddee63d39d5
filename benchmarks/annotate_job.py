"""A whole job through the annotation page: clicks, masks, review, training, export.

A Chromium makes the clicks with a real mouse: the extreme points of true masks with
2 px of noise. In the review a mask is accepted as it is, or, where its IoU with the
true one is low, repaired by dragging its four clicks to where they belong.

    python -m benchmarks.annotate_job FILE.json FOLDER OUT --encoder=ENCODER \
        [--model=RUN_OR_FILE] [--objects=30] [--steps=100]
"""

import argparse
import contextlib
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, expect

from benchmarks.common.pages import opened, served, spot
from exits_jax.data.extreme_points import clean_points
from exits_jax.data.masks import decode_mask

_NOISE_PX = 2.0
_MIN_AREA = 48**2
_GOOD = 0.7  # IoU below which a person would mend the mask
_MAX_CLASSES = 10  # keys 1 to 9 and 0
_MASK = "accepts; drag a click"


def main() -> None:
    """Does the job; prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--model", help="default: the walk of the encoder")
    parser.add_argument("--objects", type=int, default=30)
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()
    names, objects = chosen(args.annotations, args.objects)
    if len(names) > _MAX_CLASSES:
        parser.error(
            f"The objects have {len(names)} classes, and {_MAX_CLASSES} have a key: "
            "give fewer --objects."
        )
    images = args.out / "images"
    images.mkdir(parents=True)  # a new folder each time
    for each in objects:
        shutil.copy(args.folder / each["file"], images / each["name"])
    clicks, reviewed = args.out / "clicks.json", args.out / "reviewed.json"
    model = f"--model={args.model or f'walk:{args.encoder}'}"
    seconds: dict[str, list[float]] = {}
    with timed("annotate", seconds):
        words = [str(images), f"--out={clicks}", model, f"--classes={','.join(names)}"]
        with served(*words) as url, opened(url) as page:
            with timed("of which clicking", seconds):
                annotate(page, objects, names)
    made = json.loads(clicks.read_text())
    result: dict[str, Any] = {"objects": len(made["annotations"])}
    result["images"] = len({each["name"] for each in objects})
    result["miou_clicked"] = mean_iou(made, objects)
    with timed("review", seconds):
        words = [str(images), f"--out={reviewed}", model, f"--review={clicks}"]
        with served(*words) as url, opened(url) as page:
            result["repaired"] = review(page, made, objects)
    made = json.loads(reviewed.read_text())
    result["miou_reviewed"] = mean_iou(made, objects)
    data = [f"--config.data.images={images}"]
    run = args.out / "run"
    with timed("run", seconds):
        command(
            *["run", "--config=custom:cpu", f"--workdir={run}", *data],
            f"--config.data.train={reviewed}",
            f"--config.init.encoder={args.encoder}",
            f"--config.train.steps={args.steps}",
            f"--config.warmup.steps={args.steps // 2}",
        )
    masks = run / "pseudo_masks.json"
    result["miou_trained"] = mean_iou(json.loads(masks.read_text()), objects)
    with timed("export", seconds):
        command(
            *["export", f"--config.export.source={masks}", *data],
            *["--config.export.kind=cvat", f"--config.export.out={args.out / 'cvat'}"],
        )
    result["seconds, CPU seconds"] = seconds
    print(json.dumps(result))


@contextlib.contextmanager
def timed(name: str, seconds: dict[str, list[float]]) -> Iterator[None]:
    """Notes how long a block takes, and what its processes compute meanwhile."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    yield
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    seconds[name] = [round(time.perf_counter() - started, 1), round(cpu, 1)]


def command(*words: str) -> None:
    """Runs `exits-jax`."""
    subprocess.run([sys.executable, "-m", "exits_jax", *words], check=True)


def chosen(path: Path, count: int) -> tuple[list[str], list[dict[str, Any]]]:
    """Objects of a fair size from as few images as there are, and their classes.

    Args:
        path: A COCO JSON with masks.
        count: How many objects.
    """
    source = json.loads(path.read_text())
    images = {each["id"]: each for each in source["images"]}
    names = {each["id"]: each["name"] for each in source["categories"]}
    objects: list[dict[str, Any]] = []
    for record in sorted(source["annotations"], key=lambda each: each["image_id"]):
        image = images[record["image_id"]]
        if record.get("iscrowd") or record["area"] < _MIN_AREA:
            continue
        mask = decode_mask(record["segmentation"], image["height"], image["width"])
        objects.append(
            {
                "file": image["file_name"],
                "name": Path(image["file_name"]).name,
                "class": names[record["category_id"]],
                "mask": mask,
                "points": clean_points(mask).astype(float),
            }
        )
        if len(objects) == count:
            break
    occurring = {each["class"] for each in objects}
    return [name for name in names.values() if name in occurring], objects


def annotate(page: Page, objects: list[dict[str, Any]], names: list[str]) -> None:
    """Clicks all objects; each is waited for, and accepted by Enter."""
    rng = np.random.default_rng(0)
    shown = ""
    for each in objects:
        if each["name"] != shown:
            shown = each["name"]
            turn_to(page, shown)
        page.keyboard.press(str((names.index(each["class"]) + 1) % 10))
        height, width = each["mask"].shape
        last = np.array([width, height]) - 1.0
        noisy = each["points"] + rng.normal(0, _NOISE_PX, (4, 2))
        for x, y in np.clip(noisy, 0, last).tolist():
            page.mouse.click(*spot(page, x, y))
        expect(page.locator("#progress")).to_contain_text(_MASK, timeout=60_000)
        page.keyboard.press("Enter")
    page.locator("#saved[data-state=saved]").wait_for()
    page.locator("#finish").click()
    page.locator("#commands pre").first.wait_for()


def turn_to(page: Page, name: str) -> None:
    """Goes to the image of a name, which is this one or a later one."""
    where = page.locator("#where")
    while name not in (before := where.inner_text()):
        page.keyboard.press("d")
        expect(where).not_to_have_text(before)


def review(page: Page, made: dict[str, Any], objects: list[dict[str, Any]]) -> int:
    """Accepts the masks, the doubtful ones first; returns how many were repaired."""
    truths = paired(made, objects)
    repaired, key = 0, None
    for _ in made["annotations"]:
        key = next_key(page, key)
        record = made["annotations"][int(key.removeprefix("s"))]  # its place there
        truth = truths[record["id"]]
        if iou(record, truth) < _GOOD:
            repaired += 1
            repair(page, record, truth)
        page.keyboard.press("y")
    page.locator("#end[open]").wait_for()
    page.locator("#saved[data-state=saved]").wait_for()
    return repaired


def next_key(page: Page, last: str | None) -> str:
    """The object that is shown for review, once it is another one."""
    wanted = """async () => {
      const {selected} = (await import("/static/main.js")).app;
      return selected?.drawn ? selected.key : null;
    }"""
    return until(page, wanted, lambda key: key not in (None, last))


def until(page: Page, wanted: str, holds: Callable[[Any], bool]) -> Any:
    """What an expression of the page gives, as soon as it is right."""
    for _ in range(1200):
        if holds(found := page.evaluate(wanted)):
            return found
        page.wait_for_timeout(50)
    raise TimeoutError(f"The page never came to: {wanted}")


def repair(page: Page, record: dict[str, Any], truth: dict[str, Any]) -> None:
    """Drags each click to where it belongs, and waits for the mask."""
    page.keyboard.press("r")
    for old, new in zip(record["extreme_points"], truth["points"].tolist()):
        page.mouse.move(*spot(page, *old))
        page.mouse.down()
        page.mouse.move(*spot(page, *new), steps=6)
        page.mouse.up()
    waiting = """async () => {
      const {app} = await import("/static/main.js");
      const one = app.selected;
      return Boolean(one.rle) && !one.isComputing && one.asked !== null;
    }"""
    until(page, waiting, bool)


def paired(made: dict[str, Any], objects: list[dict[str, Any]]) -> dict[Any, Any]:
    """The true object of each annotation: that of its image whose clicks are nearest.

    Args:
        made: A COCO JSON of the page.
        objects: What was clicked.
    """
    names = {each["id"]: each["file_name"] for each in made["images"]}
    found = {}
    for record in made["annotations"]:
        points = np.array(record["extreme_points"])
        own = [each for each in objects if each["name"] == names[record["image_id"]]]
        found[record["id"]] = min(
            own, key=lambda each: np.abs(each["points"] - points).max()
        )
    return found


def iou(record: dict[str, Any], truth: dict[str, Any]) -> float:
    """Of the mask of a record with the true one."""
    mask = decode_mask(record["segmentation"], *truth["mask"].shape)
    return float((mask & truth["mask"]).sum() / (mask | truth["mask"]).sum())


def mean_iou(made: dict[str, Any], objects: list[dict[str, Any]]) -> float:
    """Over all annotations, %."""
    truths = paired(made, objects)
    values = [iou(each, truths[each["id"]]) for each in made["annotations"]]
    return round(100 * float(np.mean(values)), 1)


if __name__ == "__main__":
    main()
