"""One instance to one training sample: read, crop, flip, jitter.

A sample has the fields of `exits_jax.batch.Batch` without the axis of its rows.
"""

import math
import threading
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from exits_jax.batch import Batch
from exits_jax.data import augment, crops
from exits_jax.data.images import ImageError
from exits_jax.data.label_store import LabelStore
from exits_jax.data.table import ImageSource, Instances
from exits_jax.files.retries import READ_RETRIES, may_pass, retrying
from exits_jax.files.words import printable


class CropOptions(NamedTuple):
    """How an instance becomes a sample (Section 4.1 and the paper's baseline)."""

    crop_size: int = 512  # side of the square crop, px
    train_margin: float = 1.2  # largest random margin, in half extents of the box
    test_margin: float = 0.6  # total margin per axis when labels are made
    flip_rate: float = 0.5  # probability of a left-right flip
    photometric: augment.Photometric | None = augment.Photometric()  # None: no change
    cache_mb: int = 0  # decoded images kept per process, MB; 0 keeps none
    on_device: bool = False  # the photometric change is drawn here and made there
    reduced: bool = False  # decode for training at the size that a crop needs
    read_retries: int = READ_RETRIES  # of a read that fails for a reason that may pass


class SampleReader:
    """Makes samples of objects that are held as columns."""

    def __init__(
        self,
        instances: Instances,
        options: CropOptions,
        labels: LabelStore | None = None,
    ):
        """Reads no image yet; `labels` has a row for each instance."""
        self._instances = instances
        self._labels = labels
        self._options = options
        self._cache = ImageCache(instances, options.cache_mb, options.read_retries)

    def __len__(self) -> int:
        """Number of instances."""
        return len(self._instances)

    def train_sample(self, seed: int, epoch: int, index: int) -> Batch:
        """One random crop, clean and jittered.

        With `on_device` it has, in place of the jittered view, what makes it: the
        arrays of `augment.change_arrays`.
        """
        options = self._options
        rng = np.random.default_rng([seed, epoch, index])
        sample_seed = rng.integers(2**32, dtype=np.uint32)
        margins = crops.train_margins(rng, options.train_margin)
        flip = rng.random() < options.flip_rate
        sample = self._crop(index, margins, reduced=options.reduced)
        sample |= self._labels_of(index, sample["window"])
        if flip:
            sample = augment.flip_sample(sample)
        changes = augment.NO_CHANGES
        if options.photometric is not None:
            changes = augment.draw_changes(rng, options.photometric)
        student = self._student(sample["image"], changes)
        return sample | student | {"seed": sample_seed}

    def label_sample(self, index: int) -> Batch:
        """One clean crop with the test margins."""
        return self._crop(index, crops.test_margins(self._options.test_margin))

    def blank_sample(self, index: int = -1) -> Batch:
        """A row to leave out; its box is the whole crop, so that nothing divides by 0.

        A box without area would turn losses of the row, and then masked sums, to NaN.
        """
        size = self._options.crop_size
        whole = np.array([0, 0, size, size], np.float32)
        return {
            "image": np.zeros((size, size, 3), np.uint8),
            "extreme_points": np.zeros((4, 2), np.float32),
            "has_points": np.bool_(False),
            "box": whole,
            "valid_region": whole,
            "box_area": np.float32(size * size),
            "window": np.array([0, 0, size, size], np.int32),
            "seed": np.uint32(0),
            "index": np.int32(index),
            "valid": np.bool_(False),
        }

    def blank_train_sample(self, index: int) -> Batch:
        """A row to leave out of a training batch, with the fields of the others."""
        sample = self.blank_sample(index)
        if self._labels is not None:
            sample |= self._labels.blank() | {"label_region": sample["box"]}
        return sample | self._student(sample["image"], augment.NO_CHANGES)

    def _labels_of(self, index: int, window: np.ndarray) -> Batch:
        """The stored labels of an object, and where their crop lies in this one."""
        if self._labels is None:
            return {}
        box = np.asarray(self._instances.boxes[index])
        margins = crops.test_margins(self._options.test_margin)
        region = crops.crop_window(box, margins)
        here = crops.Window(*window.tolist())
        size = self._options.crop_size
        return {
            **self._labels.read(index),
            "label_region": crops.box_to_crop(region, here, size),
        }

    def _student(self, image: np.ndarray, changes: augment.Changes) -> Batch:
        """The student's view of a crop, or what the device makes it from."""
        options = self._options
        if not options.on_device:
            return {"student_image": augment.apply_changes(image, changes)}
        if options.photometric is None:
            return {}
        return augment.change_arrays(changes, options.photometric)

    def _crop(
        self, index: int, margins: crops.Margins, *, reduced: bool = False
    ) -> Batch:
        instances, size = self._instances, self._options.crop_size
        row = int(instances.image[index])
        height, width = instances.image_sizes[row].tolist()
        box = np.asarray(instances.boxes[index])
        by = 1
        if reduced:
            window = crops.crop_window(box, margins)
            by = crops.reduction(window, (height, width), size)
        image = self._cache.read(row, reduced_by=by)
        if image.shape[:2] != (math.ceil(height / by), math.ceil(width / by)):
            there = f"{image.shape[1]}x{image.shape[0]}"
            at = "" if by == 1 else f", at 1/{by} of its sides,"
            raise ImageError(
                f"{instances.name(row)}: the file has {there} pixels{at} its "
                f"annotations say {width}x{height}. Both must be (width x height) of "
                "the image that was annotated."
            )
        return crop_sample(
            image,
            box,
            instances.points[index] if instances.has_points[index] else None,
            margins,
            size=size,
            index=index,
            reduced_by=by,
        )


def crop_sample(
    image: np.ndarray,
    box: crops.Box,
    points: np.ndarray | None,
    margins: crops.Margins,
    *,
    size: int,
    index: int = 0,
    reduced_by: int = 1,
) -> Batch:
    """An annotated object as the crop that a model sees, with its annotation in it.

    Args:
        image: uint8 [height, width, 3].
        box: xyxy px of the image.
        points: float [4, 2], (x, y) px of the image: top, left, bottom, right; or None.
        margins: How far the crop reaches past the box.
        size: Side of the crop, px.
        index: Number of the object.
        reduced_by: What the sides of `image` were divided by, see `crops.reduction`.
    """
    x0, y0, x1, y1 = np.asarray(box, np.float64)
    window = crops.crop_window(box, margins)
    whole = (image.shape[0] * reduced_by, image.shape[1] * reduced_by)
    in_crop = np.zeros((4, 2), np.float32)
    if points is not None:
        in_crop = crops.points_to_crop(points, window, size)
    return {
        "image": crops.crop_image(image, window, size, reduced_by=reduced_by),
        "extreme_points": in_crop,
        "has_points": np.bool_(points is not None),
        "box": crops.box_to_crop(box, window, size),
        "valid_region": crops.valid_region(whole, window, size),
        "box_area": np.float32((x1 - x0) * (y1 - y0)),
        "window": np.array(window, np.int32),
        "seed": np.uint32(0),
        "index": np.int32(index),
        "valid": np.bool_(True),
    }


class ImageCache:
    """Decoded images, least recently used first, bounded in bytes; thread-safe."""

    def __init__(self, source: ImageSource, limit_mb: int, read_retries: int = 0):
        """Starts empty.

        Args:
            source: Where images come from.
            limit_mb: Pixels to keep, MB; 0 keeps nothing.
            read_retries: How often to read again what may be a passing fault.
        """
        self._source = source
        self._limit_mb = limit_mb
        self._read_retries = read_retries
        self._room = limit_mb * 2**20
        self._images: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self):
        """A worker process starts with its own empty cache."""
        return ImageCache, (self._source, self._limit_mb, self._read_retries)

    def read(self, image: int, *, reduced_by: int = 1) -> np.ndarray:
        """The pixels of an image, which the caller must not change.

        What is kept decides no pixel: each size is decoded for itself.

        Raises:
            FileNotFoundError: There is no such image.
            ImageError: It cannot be decoded, or its storage failed each time.
        """
        key = (image, reduced_by)
        if not self._limit_mb:
            return self._read(*key)
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
                return self._images[key]
        pixels = self._read(*key)  # outside the lock: threads work in parallel
        with self._lock:
            if key not in self._images:
                self._images[key] = pixels
                self._room -= pixels.nbytes
            while self._room < 0:
                self._room += self._images.popitem(last=False)[1].nbytes
        return pixels

    def _read(self, image: int, reduced_by: int) -> np.ndarray:
        retries = self._read_retries
        read = lambda: self._source.read(image, reduced_by=reduced_by)
        try:
            return retrying(read, retries=retries)
        except OSError as error:
            if not may_pass(error):
                raise
            raise ImageError(
                f"{printable(self._source.name(image))} cannot be read: "
                f"{error.strerror}, {retries + 1} times in a row."
            ) from error
