import errno
import os

import numpy as np
import pytest

from exits_jax.data.images import ImageError
from exits_jax.data.samples import ImageCache
from exits_jax.files import retries


class Drawn:
    """Images of one size that note when they are read."""

    def __init__(self, side=512):
        self.reads = []
        self.image = np.zeros((side, side, 3), np.uint8)  # 0.75 MB

    def read(self, image, *, reduced_by=1):
        self.reads.append(image)
        return self.image.copy()

    def name(self, image):
        return str(image)


def test_cache_forgets_the_image_used_longest_ago():
    drawn = Drawn()
    cache = ImageCache(drawn, 2)
    for image in [0, 1, 0, 2, 0, 1]:
        cache.read(image)
    assert drawn.reads == [0, 1, 2, 1]


def test_cache_without_room_keeps_nothing():
    drawn = Drawn(2)
    cache = ImageCache(drawn, 0)
    for _ in range(2):
        cache.read(7)
    assert drawn.reads == [7, 7]


def test_an_image_larger_than_the_cache_is_still_read():
    pixels = ImageCache(Drawn(1024), 1).read(0)
    np.testing.assert_array_equal(pixels, Drawn(1024).image)


class Failing(Drawn):
    """A storage that fails a number of times before it gives an image."""

    def __init__(self, times, number=errno.EIO):
        super().__init__(4)
        self.times, self.number = times, number

    def read(self, image, *, reduced_by=1):
        pixels = super().read(image)
        if len(self.reads) <= self.times:
            raise OSError(self.number, os.strerror(self.number))
        return pixels

    def name(self, image):
        return f"photo {image}"


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch):
    monkeypatch.setattr(retries, "_FIRST_WAIT_S", 0.0)


@pytest.mark.parametrize("limit_mb", [0, 1])
def test_a_fault_that_passes_is_read_over(limit_mb):
    storage = Failing(2)
    np.testing.assert_array_equal(
        ImageCache(storage, limit_mb, 3).read(5), storage.image
    )
    assert storage.reads == [5] * 3


def test_a_fault_that_stays_names_the_image_and_what_fails():
    storage = Failing(9)
    with pytest.raises(ImageError, match=r"photo 5 .*Input/output error, 4 times") as e:
        ImageCache(storage, 0, 3).read(5)
    assert e.value.code == "E113" and storage.reads == [5] * 4


def test_a_refused_read_is_no_fault_of_the_image():
    storage = Failing(9, errno.EACCES)
    with pytest.raises(PermissionError):
        ImageCache(storage, 0, 3).read(5)
    assert storage.reads == [5]
