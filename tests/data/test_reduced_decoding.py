"""Photographs decoded at the size that a training crop needs."""

import numpy as np
import pytest
from PIL import Image

from exits_jax.data import crops
from exits_jax.data.images import ImageError, read_image
from exits_jax.data.records import Instance
from exits_jax.data.samples import CropOptions, SampleReader
from exits_jax.data.table import Instances

HEIGHT, WIDTH, SIZE = 601, 803, 64
BOX = (200.0, 150.0, 500.0, 420.0)


@pytest.fixture(params=["jpg", "png"])
def photo(request, tmp_path):
    """A file whose red grows with x, green with y, and blue in waves."""
    x, y = np.arange(WIDTH), np.arange(HEIGHT)[:, None]
    waves = 128 + 90 * np.sin(x / 23) * np.sin(y / 31)
    planes = np.broadcast_arrays(0.3 * x, 0.4 * y, waves)
    path = tmp_path / f"photo.{request.param}"
    Image.fromarray(np.stack(planes, -1).astype(np.uint8)).save(path, quality=97)
    return path


def reader(path, *, size=(HEIGHT, WIDTH), **options):
    item = Instance(
        annotation_id=1,
        image_id=1,
        category_id=1,
        image_path=str(path),
        image_size=size,
        box=BOX,
        extreme_points=None,
        is_crowd=False,
        flags=(),
    )
    options = CropOptions(crop_size=SIZE, flip_rate=0.0, photometric=None, **options)
    return SampleReader(Instances.of([item]), options)


@pytest.mark.parametrize(
    ("window", "by"),
    [
        ((0, 0, 127, 400), 1),
        ((0, 0, 128, 400), 2),
        ((0, 0, 400, 255), 2),
        ((0, 0, 512, 600), 8),
        ((-1, 0, 511, 600), 1),
        ((300, 100, WIDTH + 1, 600), 1),
    ],
)
def test_no_crop_has_to_be_enlarged_and_none_leaves_the_image(window, by):
    assert crops.reduction(crops.Window(*window), (HEIGHT, WIDTH), SIZE) == by


@pytest.mark.parametrize("by", [2, 4, 8])
def test_both_sides_are_divided_and_rounded_up(photo, by):
    pixels = read_image(photo, reduced_by=by)
    assert pixels.shape == (-(-HEIGHT // by), -(-WIDTH // by), 3)


@pytest.mark.parametrize("by", [2, 4])
def test_a_crop_shows_the_same_place_of_the_reduced_image(photo, by):
    window = crops.crop_window(BOX, (0.1, 0.2, 0.3, 0.05))
    whole = crops.crop_image(read_image(photo), window, SIZE)
    reduced = read_image(photo, reduced_by=by)
    found = crops.crop_image(reduced, window, SIZE, reduced_by=by)
    difference = found.astype(float) - whole
    assert np.abs(difference).mean() < 1  # of 256 levels
    # A pixel of the crop to the side would be 1.8 levels of red, 2 of green.
    assert np.abs(difference[2:-2, 2:-2].mean(axis=(0, 1))).max() < 0.5


def test_training_crops_are_decoded_reduced_and_crops_for_labels_are_not(photo):
    exact, reduced = reader(photo), reader(photo, reduced=True)
    samples = [each.train_sample(0, 0, 0) for each in (exact, reduced)]
    assert (samples[0]["image"] != samples[1]["image"]).any()
    for name in samples[0].keys() - {"image", "student_image"}:
        np.testing.assert_array_equal(samples[0][name], samples[1][name])
    labels = [each.label_sample(0)["image"] for each in (exact, reduced)]
    np.testing.assert_array_equal(*labels)


def test_what_was_read_before_decides_no_pixel(photo):
    alone = reader(photo, reduced=True).train_sample(0, 0, 0)["image"]
    after = reader(photo, reduced=True, cache_mb=64)
    after.label_sample(0)
    for _ in range(2):
        np.testing.assert_array_equal(after.train_sample(0, 0, 0)["image"], alone)


def test_an_image_of_another_size_is_refused_at_any_size(photo):
    other = reader(photo, size=(HEIGHT + 8, WIDTH), reduced=True)
    with pytest.raises(ImageError, match=f"annotations say {WIDTH}x{HEIGHT + 8}"):
        other.train_sample(0, 0, 0)
