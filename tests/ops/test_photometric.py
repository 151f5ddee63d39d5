import os
from pathlib import Path

import jax
import numpy as np
import pytest

from exits_jax.data import augment
from exits_jax.data.augment import (
    NO_CHANGES,
    Photometric,
    apply_changes,
    change_arrays,
    draw_changes,
)
from exits_jax.data.crops import Window, crop_image
from exits_jax.data.images import read_image
from exits_jax.datasets.scenes import draw_scene
from exits_jax.ops.photometric import Changes, student_view

SIZE = 96
OPTIONS = Photometric()
PHOTOGRAPHS = Path(os.environ.get("EXITS_DATA", "/nonexistent")) / "coco_mini/images"
on_device = jax.jit(student_view)


@pytest.fixture(scope="module")
def drawn():
    """Scenes, and noise as the hardest picture there is."""
    rng = np.random.default_rng(0)
    scenes = [draw_scene(rng, SIZE)[0] for _ in range(12)]
    noise = rng.integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
    return np.concatenate([np.stack(scenes), noise])


def both(images, changes):
    """The views of the device and those of the host."""
    rows = [change_arrays(change, OPTIONS) for change in changes]
    arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    host = [apply_changes(image, change) for image, change in zip(images, changes)]
    return np.asarray(on_device(images, Changes(**arrays))), np.stack(host)


def difference(images, changes):
    device, host = both(images, changes)
    return np.abs(device.astype(int) - host.astype(int))


def draws(count, **options):
    rng = np.random.default_rng(7)
    return [draw_changes(rng, OPTIONS._replace(**options)) for _ in range(count)]


def test_drawn_scenes_look_the_same_as_by_the_host(drawn):
    for rate in (OPTIONS.jitter_rate, 1.0):
        found = difference(drawn, draws(len(drawn), jitter_rate=rate))
        assert found.max() <= 2 and found.mean() < 1e-3


@pytest.mark.skipif(
    not PHOTOGRAPHS.is_dir(), reason="needs EXITS_DATA, a folder with coco_mini"
)
def test_photographs_look_the_same_as_by_the_host():
    files = sorted(PHOTOGRAPHS.glob("*.jpg"))[:64]
    assert len(files) == 64
    images = np.stack(
        [crop_image(read_image(file), Window(40, 40, 290, 250), SIZE) for file in files]
    )
    found = difference(images, draws(64, jitter_rate=1.0))
    assert found.max() <= 2 and found.mean() < 1e-3


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("amount", [-0.0931, 0.0311, 0.0973])
def test_each_jitter_alone_is_that_of_the_host(drawn, kind, amount):
    amounts = [amount if kind == number else 0.0 for number in range(4)]
    change = NO_CHANGES._replace(amounts=amounts)
    found = difference(drawn, [change] * len(drawn))
    assert found.max() <= 1 and found.mean() < 1e-4
    device, _ = both(drawn, [change] * len(drawn))
    assert (device != drawn).mean() > 0.2


def test_grey_is_that_of_the_host(drawn):
    assert not difference(drawn, [NO_CHANGES._replace(is_grey=True)] * 16).any()


@pytest.mark.parametrize("sigma", [0.1, 0.37, 0.9, 1.41, 2.0])
def test_blur_is_that_of_the_host(drawn, sigma):
    assert not difference(drawn, [NO_CHANGES._replace(blur_sigma=sigma)] * 16).any()


def test_the_order_of_the_jitters_is_kept(drawn):
    amounts = [0.4, 0.4, -0.2, 0.07]
    orders = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] * 4
    changes = [NO_CHANGES._replace(order=o, amounts=amounts) for o in orders]
    same = np.repeat(drawn[:1], 16, axis=0)
    assert difference(same, changes).max() <= 2
    views = both(same, changes)[0][:4]
    assert len({view.tobytes() for view in views}) == 4


def test_without_a_change_the_view_is_the_crop(drawn):
    device, _ = both(drawn, [NO_CHANGES] * len(drawn))
    assert device.dtype == np.uint8
    np.testing.assert_array_equal(device, drawn)


def test_a_crop_does_not_see_the_others_of_its_batch(drawn):
    changes = draws(len(drawn), jitter_rate=1.0)
    together, _ = both(drawn, changes)
    alone, _ = both(drawn[3:4], changes[3:4])
    np.testing.assert_array_equal(alone[0], together[3])


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.5, 1.0, 2.0])
def test_the_weights_of_the_blur_sum_to_one(sigma):
    weights = augment.blur_kernel(sigma, 7)
    assert weights[0] + 2 * weights[1:].sum() == 256
    assert weights.dtype == np.float32 and (weights >= 0).all()
