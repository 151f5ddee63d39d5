"""A folder of images, a store on it, and events as a page sends them."""

import numpy as np
import pytest
from PIL import Image

from exits_jax.annotate.store import Store, Task


@pytest.fixture
def folder(tmp_path):
    """Three images of 40 x 30 px."""
    made = tmp_path / "images"
    (made / "street").mkdir(parents=True)
    for name in ("a.png", "b.png", "street/c.png"):
        rng = np.random.default_rng(len(name))
        pixels = rng.integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(made / name)
    return made


@pytest.fixture
def task(folder, tmp_path):
    return Task(folder, tmp_path / "clicks.json", ("car", "person"))


@pytest.fixture
def open_store(task):
    """Opens stores, and closes those that a test leaves open."""
    opened = []

    def opening(another=task):
        opened.append(Store(another))
        return opened[-1]

    yield opening
    for store in opened:
        store._lock_file.close()
