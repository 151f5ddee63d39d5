"""Batches built in the background by threads or processes, with a clean end."""

import atexit
import functools
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import grain
from absl import flags

from exits_jax.batch import Batch

_LOST = "terminated unexpectedly"  # what grain says of a worker that is gone


class WorkerLost(RuntimeError):
    """A worker process ended without being asked to, as when the system kills it."""


class BatchIterator(Iterator[Batch]):
    """Batches in order; ends its threads and workers at the last one or on `close`."""

    def __init__(
        self,
        iterator: grain.DatasetIterator[Batch] | None,
        scratch: Sequence[Path] = (),
        num_workers: int = 0,
    ):
        """Takes over a started iterator; None stands for no batch at all.

        Args:
            iterator: Its batches.
            scratch: Folders that end with it. With workers, the first is where they
                note their process ids.
            num_workers: Number of workers.
        """
        self._iterator = iterator
        self._scratch = scratch
        self._num_workers = num_workers
        _running.add(self)

    def __next__(self) -> Batch:
        """The next batch; an error while building it ends the iterator.

        Raises:
            WorkerLost: If a worker is gone.
        """
        if self._iterator is None:
            raise StopIteration
        try:
            return next(self._iterator)
        except BaseException as error:
            lost = self._lost_workers(error)
            self.close()
            if lost:
                raise WorkerLost(lost) from error
            raise

    def close(self) -> None:
        """Stops reading; may be called more than once."""
        iterator, self._iterator = self._iterator, None
        if iterator is not None:
            iterator.close()
        for folder in self._scratch:
            shutil.rmtree(folder, ignore_errors=True)

    def _lost_workers(self, error: BaseException) -> str:
        """Says which workers are gone, if that is what an error of grain is about."""
        if not (isinstance(error, RuntimeError) and _LOST in str(error)):
            return ""
        gone = [_gone(self._scratch[0], i) for i in range(self._num_workers)]
        names = ", ".join(filter(None, gone)) or "one that was still starting"
        return (
            f"Of the {self._num_workers} workers that build batches, {names}, ended "
            f"unasked. {str(error).split('. ')[0]}. The system kills processes when "
            "memory runs out: fewer data.num_workers or a smaller data.cache_mb need "
            "less."
        )


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
    folders = [] if scratch is None else [scratch]
    if not len(batches):
        return BatchIterator(None, folders)
    # Workers ask for the values of absl flags, which are unset outside absl's app.run.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    _use_one_thread_per_sample()
    num_workers = min(num_workers, len(batches))
    begin_worker = None
    if num_workers:
        folders.insert(0, Path(tempfile.mkdtemp(prefix="exits_workers_")))
        begin_worker = functools.partial(_begin_worker, folders[0])
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
            worker_init_fn=begin_worker,
        )
    )
    iterator.start_prefetch()
    return BatchIterator(iterator, folders, num_workers)


def _begin_worker(folder: Path, index: int, count: int) -> None:
    """Prepares a worker process, before its first batch."""
    del count
    (folder / str(index)).write_text(str(os.getpid()))
    # A terminal and a cluster signal whole groups of processes. The parent decides what
    # to do then; it may want batches for the step under way.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _use_one_thread_per_sample()


def _end_with_parent() -> None:
    """Ends a worker whose parent was killed and so could not ask it to."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _gone(folder: Path, index: int) -> str:
    """Name of a worker that began and is not alive; empty otherwise."""
    file = folder / str(index)
    if not file.exists():
        return ""
    try:
        os.kill(int(file.read_text()), 0)
    except ProcessLookupError:
        return f"number {index} (process {file.read_text()})"
    return ""


def _use_one_thread_per_sample() -> None:
    """Batches are built side by side, so threads inside OpenCV only add switches."""
    cv2.setNumThreads(1)
