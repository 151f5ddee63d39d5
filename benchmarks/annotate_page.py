"""How long the annotation page takes, from the fourth click to the painted mask.

A Chromium makes the clicks of drawn ellipses through the page, as a person would; the
page's own clock says when the mask is on the screen, and how long it was blocked.

    python -m benchmarks.annotate_page --model=runs/mine [--megapixels=24]
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from playwright.sync_api import Page

from benchmarks.common.pages import opened, served, spot

SIZES = {"0.3": (640, 480), "24": (6000, 4000)}  # megapixels: (width, height)
_WATCH = """async () => {
  const {app} = await import("/static/main.js");
  window.begun = 0;
  window.painted = new Promise((resolve) => {
    document.getElementById("overlay").addEventListener("pointerdown", () => {
      window.begun = performance.now();
    }, {once: true, capture: true});
    const look = () => {
      const {drawn} = app.objects.list.at(-1);
      if (window.begun && drawn) requestAnimationFrame(() =>
        resolve(performance.now() - window.begun));
      else requestAnimationFrame(look);
    };
    look();
  });
}"""
_BLOCKED = """() => {
  window.blocked = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) window.blocked.push(entry.duration);
  }).observe({type: "longtask", buffered: false});
}"""


def main() -> None:
    """Reads the words, measures, prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--objects", type=int, default=50)
    parser.add_argument("--megapixels", choices=SIZES, default="0.3")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        boxes = drawn(Path(folder), SIZES[args.megapixels], args.objects)
        words = [folder, f"--model={args.model}", f"--out={folder}/clicks.json"]
        with served(*words) as url, opened(url) as page:
            times, blocked = clicked(page, boxes)
    result = {
        "megapixels": args.megapixels,
        "objects": len(times),
        "p50_ms": round(float(np.percentile(times, 50))),
        "p95_ms": round(float(np.percentile(times, 95))),
        "longest_task_ms": round(max(blocked, default=0)),
        "tasks_over_50_ms": len(blocked),
    }
    print(json.dumps(result))


def drawn(folder: Path, size: tuple[int, int], count: int) -> np.ndarray:
    """Writes one image of ellipses; returns their boxes, [count, 4] xyxy px."""
    rng = np.random.default_rng(0)
    width, height = size
    image = Image.fromarray(rng.integers(60, 200, (height, width, 3), np.uint8))
    draw = ImageDraw.Draw(image)
    centres = rng.uniform(0.2, 0.8, (count, 2)) * size
    radii = rng.uniform(0.04, 0.18, (count, 2)) * size
    boxes = np.concatenate([centres - radii, centres + radii], axis=1).round()
    for box in boxes:
        draw.ellipse(box.tolist(), fill=tuple(rng.integers(0, 256, 3).tolist()))
    image.save(folder / "drawn.jpg", quality=90)
    return boxes


def clicked(page: Page, boxes: np.ndarray) -> tuple[list[float], list[float]]:
    """Makes all objects; returns times and long tasks, ms."""
    times: list[float] = []
    page.evaluate(_BLOCKED)
    for x0, y0, x1, y1 in boxes.tolist():
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        for point in ((x, y0), (x0, y), (x, y1)):
            page.mouse.click(*spot(page, *point))
        last = spot(page, x1, y)
        page.evaluate(_WATCH)
        page.mouse.click(*last)
        times.append(page.evaluate("() => window.painted"))
        page.keyboard.press("Enter")
    return times, page.evaluate("() => window.blocked")


if __name__ == "__main__":
    main()
