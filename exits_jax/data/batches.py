"""Shuffled, sharded, resumable batches of crops.

A sample is a function of (instances, seed, epoch, index), and row r of step s is the
sample at position s * global_batch + r of an endless sequence of epochs. A run that
starts at step s therefore continues exactly, with any number of processes, workers and
threads, and needs no saved iterator.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import grain
import numpy as np

from exits_jax.batch import Batch, stack
from exits_jax.data.images import ImageError
from exits_jax.data.label_store import LabelStore
from exits_jax.data.records import Instance
from exits_jax.data.samples import CropOptions, SampleReader
from exits_jax.data.table import Instances
from exits_jax.data.workers import BatchIterator, start


def train_batches(
    instances: Sequence[Instance],
    options: CropOptions,
    *,
    seed: int,
    global_batch: int,
    start_step: int,
    num_steps: int,
    process_index: int = 0,
    process_count: int = 1,
    num_workers: int = 0,
    num_threads: int = 2,
    prefetch: int = 4,
    shuffle: bool = True,
    skip_unreadable: bool = False,
    labels: LabelStore | None = None,
) -> BatchIterator:
    """Yields this process's rows of the batches of `num_steps` training steps.

    Each epoch visits every instance once, in its own order; a batch may span two
    epochs. Batches are built in the background, by threads from now on or by workers
    from the first batch on, until the iterator ends or its `close` is called.

    Args:
        instances: What to train on, the same list on every process.
        options: Crop size, margins and augmentation.
        seed: Seed of the order and of every draw, at least 0 and below 2**32.
        global_batch: Rows of a step over all processes.
        start_step: First step to yield; steps count from 0.
        num_steps: How many steps to yield.
        process_index: Which contiguous block of rows to yield.
        process_count: Number of processes that share a step.
        num_workers: Extra Python processes that build batches; 0 uses threads of this
            one. A script that sets it needs an `if __name__ == "__main__"` guard.
        num_threads: Threads per worker, or of this process without workers; 0 builds
            each batch when it is asked for.
        prefetch: Batches that are kept ready.
        shuffle: False visits the instances in the order of the list.
        skip_unreadable: Give an instance whose image cannot be read a blank row with
            valid = False and its own index, for the caller to count. The rows of the
            other instances stay what they are, on every process.
        labels: Stored labels to go with the crops, a row per instance.

    Returns:
        An iterator over dicts of arrays with a leading axis of
        `global_batch // process_count` rows.

    Raises:
        ValueError: If a number is out of range or there is nothing to train on.
        ImageError: While iterating, if an image is unreadable and
            `skip_unreadable` is False; names the file.
        WorkerLost: While iterating, if a worker is killed; names it.
    """
    rows = _local_rows(global_batch, process_index, process_count)
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be at least 0 and below 2**32, got {seed}.")
    if start_step < 0 or num_steps < 0:
        raise ValueError(
            "start_step and num_steps must be at least 0, "
            f"got {start_step} and {num_steps}."
        )
    if not instances:
        raise ValueError("There is no instance to train on.")
    order = grain.MapDataset.range(len(instances))
    if shuffle:
        order = order.seed(seed).shuffle()
    stop_step = start_step + num_steps
    num_epochs = max(1, -(-stop_step * global_batch // len(instances)))
    columns, scratch = _shareable(instances, num_workers)
    reader = SampleReader(columns, options, labels)
    build = _TrainBatch(reader, seed, global_batch, rows, skip_unreadable)
    steps = order.repeat(num_epochs).batch(global_batch).map_with_index(build)
    steps = steps[start_step:stop_step]
    return start(steps, num_workers, num_threads, prefetch, scratch)


def label_batches(
    instances: Sequence[Instance],
    options: CropOptions,
    *,
    batch: int,
    process_index: int = 0,
    process_count: int = 1,
    num_workers: int = 0,
    num_threads: int = 2,
    prefetch: int = 4,
    skip_unreadable: bool = False,
) -> BatchIterator:
    """Yields every instance once, in order, as clean crops with the test margins.

    The last batch is filled up with rows that have valid = False and index = -1; all
    processes yield the same number of batches.

    Args:
        instances: What to label, the same list on every process.
        options: Crop size and test margin; nothing is augmented.
        batch: Rows of a batch over all processes.
        process_index: Which contiguous block of rows to yield.
        process_count: Number of processes that share a batch.
        num_workers: As in `train_batches`.
        num_threads: As in `train_batches`.
        prefetch: Batches that are kept ready.
        skip_unreadable: Give an instance whose image cannot be read a row with
            valid = False and its own index, for the caller to report.

    Returns:
        An iterator over dicts of arrays with `batch // process_count` rows.

    Raises:
        ValueError: If a number is out of range.
        ImageError: While iterating, if an image is unreadable and
            `skip_unreadable` is False; names the file.
        WorkerLost: While iterating, if a worker is killed; names it.
    """
    rows = _local_rows(batch, process_index, process_count)
    steps = grain.MapDataset.range(-(-len(instances) // batch))
    columns, scratch = _shareable(instances, num_workers)
    reader = SampleReader(columns, options)
    build = _LabelBatch(reader, batch, rows, skip_unreadable)
    return start(steps.map(build), num_workers, num_threads, prefetch, scratch)


def trainable(
    instances: Sequence[Instance], *, min_area: float = 2048.0, min_side: float = 2.0
) -> Instances:
    """The instances to train on: no crowd, and a box that is large enough.

    Args:
        instances: Candidates.
        min_area: Boxes must have more than this area, px of the image squared.
        min_side: Both sides of the box must be longer than this, px of the image.
    """
    columns = Instances.of(instances)
    sides = columns.boxes[:, 2:] - columns.boxes[:, :2]
    is_larger = (sides.prod(axis=1) > min_area) & (sides.min(axis=1) > min_side)
    return columns.select(is_larger & ~columns.is_crowd)


def _shareable(
    instances: Sequence[Instance], num_workers: int
) -> tuple[Instances, Path | None]:
    """Columns that worker processes can map instead of copying, and their folder."""
    columns = Instances.of(instances)
    if not num_workers or columns.is_mapped:
        return columns, None
    scratch = Path(tempfile.mkdtemp(prefix="exits_columns_"))
    return columns.save(scratch), scratch


class _TrainBatch(NamedTuple):
    """Builds this process's rows of a step from the indices of the whole step."""

    reader: SampleReader
    seed: int
    global_batch: int
    rows: range
    skip_unreadable: bool

    def __call__(self, step: int, indices: np.ndarray) -> Batch:
        return stack([self._sample(step, row, indices) for row in self.rows])

    def _sample(self, step: int, row: int, indices: np.ndarray) -> Batch:
        epoch = (step * self.global_batch + row) // len(self.reader)
        index = int(indices[row])
        try:
            return self.reader.train_sample(self.seed, epoch, index)
        except (ImageError, FileNotFoundError):
            if not self.skip_unreadable:
                raise
            return self.reader.blank_train_sample(index)


class _LabelBatch(NamedTuple):
    """Builds this process's rows of the batch with a given number."""

    reader: SampleReader
    batch: int
    rows: range
    skip_unreadable: bool

    def __call__(self, step: int) -> Batch:
        return stack([self._sample(step * self.batch + row) for row in self.rows])

    def _sample(self, index: int) -> Batch:
        if index >= len(self.reader):
            return self.reader.blank_sample()
        try:
            return self.reader.label_sample(index)
        except (ImageError, FileNotFoundError):
            if not self.skip_unreadable:
                raise
            return self.reader.blank_sample(index)


def _local_rows(global_batch: int, process_index: int, process_count: int) -> range:
    if not 0 <= process_index < process_count:
        raise ValueError(
            f"process_index must be in [0, {process_count}), got {process_index}."
        )
    if global_batch < 1 or global_batch % process_count:
        raise ValueError(
            f"The global batch of {global_batch} rows must be a positive multiple of "
            f"the {process_count} processes that share it."
        )
    local = global_batch // process_count
    return range(process_index * local, (process_index + 1) * local)
