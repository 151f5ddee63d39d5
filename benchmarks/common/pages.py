"""The annotation page in a Chromium, for the benchmarks that click in it."""

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

from playwright.sync_api import Page, sync_playwright

_SPOT = """async ([x, y]) => {
  const {app} = await import("/static/main.js");
  const {left, top} = document.getElementById("overlay").getBoundingClientRect();
  const [px, py] = app.view.toScreen([x, y]);
  return [px + left, py + top];
}"""


@contextlib.contextmanager
def served(*words: str) -> Iterator[str]:
    """The command, serving; gives its address.

    Args:
        words: What `exits-jax annotate` is called with.
    """
    command = [sys.executable, "-m", "exits_jax", "annotate", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        try:
            yield found.group(0)
        finally:
            process.terminate()


@contextlib.contextmanager
def opened(url: str, *, has_model: bool = True) -> Iterator[Page]:
    """The page, ready; the model, too."""
    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(url)
        page.locator("body[data-ready]").wait_for()
        if has_model:
            page.locator("#model[data-state=saved]").wait_for(timeout=300_000)
        yield page
        browser.close()


def spot(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where a pixel of the image is on the screen."""
    px, py = page.evaluate(_SPOT, [x, y])
    return px, py
