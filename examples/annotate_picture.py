"""Draws the picture of the annotation page: drawn scenes, clicked in a Chromium.

python examples/annotate_picture.py runs/quickstart docs/images/annotate.png
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

PLACE = 3  # of the scene
SPOT = """async ([x, y]) => {
  const {app} = await import("/static/main.js");
  const {left, top} = document.getElementById("overlay").getBoundingClientRect();
  const [px, py] = app.view.toScreen([x, y]);
  return [px + left, py + top];
}"""


def main(run: str, out: str) -> None:
    """Serves some scenes of a finished quickstart, clicks the objects of one."""
    source = json.loads(Path(run, "annotations", "val.json").read_text())
    images = sorted(source["images"], key=lambda image: image["file_name"])[:12]
    names = ",".join(category["name"] for category in source["categories"])
    with tempfile.TemporaryDirectory() as folder:
        for image in images:
            shutil.copy(Path(run, "scenes", "val", image["file_name"]), folder)
        command = [sys.executable, "-m", "exits_jax", "annotate", folder]
        command += [f"--model={run}", f"--out={folder}/clicks.json"]
        command += [f"--classes={names}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                address = re.search(r"http://\S+", server.stdout.readline())
                assert address is not None
                objects = [
                    record
                    for record in source["annotations"]
                    if record["image_id"] == images[PLACE - 1]["id"]
                ]
                ids = [category["id"] for category in source["categories"]]
                picture(f"{address.group(0)}#{PLACE}", objects, ids, out)
            finally:
                server.terminate()


def picture(url: str, objects: list[dict], ids: list[int], out: str) -> None:
    """Makes the objects on the page, and a picture of it."""
    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1100, "height": 640})
        page.goto(url)
        page.locator("#model[data-state=saved]").wait_for(timeout=120_000)
        for record in objects:
            click(page, record, ids)
        page.mouse.move(600, 200)
        page.wait_for_timeout(500)
        page.screenshot(path=out)
        browser.close()


def click(page: Page, record: dict, ids: list[int]) -> None:
    """The four clicks of an object, then its class."""
    for point in record["extreme_points"]:
        page.mouse.click(*page.evaluate(SPOT, point))
    page.keyboard.press(str(ids.index(record["category_id"]) + 1))
    page.wait_for_timeout(1500)


if __name__ == "__main__":
    main(*sys.argv[1:])
