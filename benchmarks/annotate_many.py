"""The annotation page on 5,000 objects of 500 images, beside an empty file.

python -m benchmarks.annotate_many [--images=500] [--objects=10]
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from benchmarks.common.pages import opened, served
from exits_jax.annotate.events import Event
from exits_jax.annotate.store import Store, Task
from exits_jax.data.rle import encode

_TURN = """async () => {
  const {turn} = await import("/static/main.js");
  const started = performance.now();
  await turn(1);
  await new Promise((resolve) => requestAnimationFrame(resolve));
  return performance.now() - started;
}"""
_SAVED = """async () => {
  const {outbox} = (await import("/static/main.js")).app;
  const started = performance.now();
  while (outbox.queue.length || outbox.isSending) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return performance.now() - started;
}"""
_TURNS, _CLICKS = 30, 20


def main() -> None:
    """Measures both; prints a line of JSON each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--objects", type=int, default=10, help="of each image")
    args = parser.parse_args()
    for objects in (args.objects, 0):
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measured(Path(folder), args.images, objects)))


def measured(folder: Path, num_images: int, num_objects: int) -> dict[str, Any]:
    """Times of one file."""
    rng = np.random.default_rng(0)
    images = folder / "images"
    images.mkdir()
    pixels = rng.integers(0, 256, (480, 640, 3), np.uint8)
    Image.fromarray(pixels).save(images / "0000.jpg")
    for number in range(1, num_images):
        shutil.copy(images / "0000.jpg", images / f"{number:04d}.jpg")
    task = Task(images, folder / "clicks.json", ("a", "b"))
    store = Store(task)
    for image in range(num_images if num_objects else 0):
        store.add(events(rng, image, num_objects))
    result: dict[str, Any] = {"objects": len(store.things), "images": num_images}
    result["write_s"] = seconds(store.snapshot)
    store.close()
    result["read_s"] = seconds(lambda: Store(task).close())
    with served(str(images), f"--out={task.out}") as url:
        started = time.perf_counter()
        with opened(f"{url}#{num_images // 2}", has_model=False) as page:
            result["open_with_browser_s"] = round(time.perf_counter() - started, 2)
            started = time.perf_counter()
            page.reload()
            page.locator("body[data-ready]").wait_for()
            result["open_s"] = round(time.perf_counter() - started, 2)
            turns, clicks = list[float](), list[float]()
            for _ in range(_TURNS):
                page.wait_for_timeout(300)
                turns.append(page.evaluate(_TURN))
            for number in range(_CLICKS):
                page.mouse.click(300 + 8 * number, 300)
                clicks.append(page.evaluate(_SAVED))
    result["turn_ms"] = [round(statistics.median(turns)), round(max(turns))]
    result["click_saved_ms"] = [round(statistics.median(clicks)), round(max(clicks))]
    return result


def events(rng: np.random.Generator, image: int, count: int) -> list[Event]:
    """Ellipses that were clicked and accepted."""
    ys, xs = np.mgrid[:480, :640]
    made = []
    for number in range(image * count + 1, (image + 1) * count + 1):
        x, y = rng.uniform((100, 100), (540, 380)).tolist()
        wide, high = rng.uniform(20, 90, 2).tolist()
        quality = {"score": 0.9, "click_hit": [1, 1, 1, 1], "box_iou": 0.9}
        change = {
            "clicks": [(x, y - high), (x - wide, y), (x, y + high), (x + wide, y)],
            "status": "done",
            "rle": encode(((xs - x) / wide) ** 2 + ((ys - y) / high) ** 2 < 1),
            "by": "accepted",
            "quality": {**quality, "num_parts": 1, "flags": []},
        }
        event = {"client": "0123abcd", "n": number, "do": "click", "image": image + 1}
        event |= {"object": f"o{number}", "set": change}
        made.append(msgspec.convert(event, Event, strict=False))
    return made


def seconds(what: Any) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    what()
    return round(time.perf_counter() - started, 2)


if __name__ == "__main__":
    main()
