"""Batches built in the background by threads or processes, with a clean end."""

import atexit
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path

import cv2
import grain
import numpy as np
from absl import flags

Batch = dict[str, np.ndarray]


class BatchIterator(Iterator[Batch]):
    """Batches in order; ends its threads and workers at the last one or on `close`."""

    def __init__(
        self,
        iterator: grain.DatasetIterator[Batch] | None,
        scratch: Path | None = None,
    ):
        """Takes over a started iterator; None stands for no batch at all.

        `scratch` is a folder that workers read and that ends with them.
        """
        self._iterator = iterator
        self._scratch = scratch
        _running.add(self)

    def __next__(self) -> Batch:
        """The next batch; an error while building it ends the iterator."""
        if self._iterator is None:
            raise StopIteration
        try:
            return next(self._iterator)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stops reading; may be called more than once."""
        iterator, self._iterator = self._iterator, None
        if iterator is not None:
            iterator.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


_running: weakref.WeakSet[BatchIterator] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Lets workers go while the modules that their clean-up needs still exist."""
    for batches in list(_running):
        batches.close()


def start(
    batches: grain.MapDataset,
    num_workers: int,
    num_threads: int,
    prefetch: int,
    scratch: Path | None = None,
) -> BatchIterator:
    """Starts to build batches in the background; they come in order.

    Args:
        batches: Any batch by its number.
        num_workers: Processes that build batches; 0 uses threads of this one.
        num_threads: Threads per worker, or of this process without workers.
        prefetch: Batches that are kept ready.
        scratch: A folder that workers read, removed at the end.

    Raises:
        ValueError: If a number is out of range.
    """
    if min(num_workers, num_threads) < 0 or prefetch < 1:
        raise ValueError(
            "num_workers and num_threads must be at least 0 and prefetch at least 1, "
            f"got {num_workers}, {num_threads} and {prefetch}."
        )
    if not len(batches):
        return BatchIterator(None, scratch)
    # Workers ask for the values of absl flags, which are unset outside absl's app.run.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    _use_one_thread_per_sample()
    num_workers = min(num_workers, len(batches))
    # A worker keeps one batch per thread in the making, its queue the finished ones.
    in_process = num_threads if num_workers else prefetch
    iterator = iter(
        batches.to_iter_dataset(
            grain.ReadOptions(
                num_threads=num_threads,
                prefetch_buffer_size=in_process if num_threads else 0,
            )
        ).mp_prefetch(
            grain.MultiprocessingOptions(
                num_workers=num_workers,
                per_worker_buffer_size=-(-prefetch // max(num_workers, 1)),
            ),
            worker_init_fn=_use_one_thread_per_sample,
        )
    )
    iterator.start_prefetch()
    return BatchIterator(iterator, scratch)


def _use_one_thread_per_sample(*_: int) -> None:
    """Batches are built side by side, so threads inside OpenCV only add switches."""
    cv2.setNumThreads(1)
