"""Shard files, written by several processes and recognised when they are finished.

TFDS writes shards one after the other unless Apache Beam runs it, and starts anew after
an interruption. Here every shard is a job of its own, whose bytes depend on nothing but
its content; a note with its digest, written last, says that it is finished.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

from array_record.python import array_record_module  # pyright: ignore
from etils import epath
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from exits_jax.data.images import ImageError
from exits_jax.data.records import Instance
from exits_jax.shards.features import Schema, make_example, make_features
from exits_jax.shards.source import PackedImage
from exits_jax.shards.storage import (
    beside,
    ends_sha256_of,
    is_remote,
    move_in,
    sha256_of,
    to_json,
    write_bytes,
)

BUILDING = "building"  # folder of the notes; gone when the data set is finished

# One record per group: any record is read alone. Encoded images do not shrink, and
# unpacking them would only take time.
_OPTIONS = "group_size:1,uncompressed"


class ShardFile(NamedTuple):
    """A finished shard."""

    file: str
    sha256: str
    bytes: int
    records: int
    ends_sha256: str = ""  # of its first and last bytes; empty in older manifests


class ShardJob(NamedTuple):
    """All that a process needs to write one shard."""

    folder: str  # where the data set lies
    file: str  # name of the shard
    digest: str  # of the whole data set's source
    schema: Schema
    images: list[PackedImage]
    objects: list[list[Instance]]  # of each image


def write_shards(jobs: Iterable[ShardJob], num_workers: int) -> Iterator[ShardFile]:
    """Writes shards and yields each when it is finished, in any order.

    Args:
        jobs: What to write; asked for as processes become free.
        num_workers: Processes to start; 0 writes in this one.

    Raises:
        ImageError: If an image file changed since it was planned.
        OSError: If a file cannot be read or written.
    """
    if not num_workers:
        yield from map(write_shard, jobs)
        return
    pool = ProcessPoolExecutor(
        num_workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin_worker,
    )
    waiting: set[Future[ShardFile]] = set()
    try:
        for job in jobs:
            with _interrupts_wait():  # the first one starts the processes
                waiting.add(pool.submit(write_shard, job))
            if len(waiting) > num_workers:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool as error:
        raise OSError(
            "A process that wrote shards was killed, perhaps for want of memory. Run "
            "the same command again to go on"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def write_shard(job: ShardJob) -> ShardFile:
    """Writes one shard, and the note that it is finished."""
    folder = epath.Path(job.folder)
    notes = folder / BUILDING
    notes.mkdir(parents=True, exist_ok=True)
    if is_remote(folder):
        with tempfile.TemporaryDirectory() as local:
            made = _write(job, Path(local) / job.file, folder)
    else:
        made = _write(job, beside(notes / job.file), folder)
    note = {**made._asdict(), "source": job.digest}
    write_bytes(notes / f"{job.file}.json", to_json(note))
    return made


def finished_shard(folder: epath.Path, file: str, digest: str) -> ShardFile | None:
    """A shard that an earlier run finished, if its bytes are still those it noted.

    Of an object in a bucket, which is there as a whole or not at all, only the size is
    compared: reading it back would take as long as writing it.
    """
    note = folder / BUILDING / f"{file}.json"
    if not note.exists() or not (folder / file).exists():
        return None
    try:
        values = json.loads(note.read_text())
        source = values.pop("source")
        made = ShardFile(**values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # no note of this writer: the shard is written again
    if source != digest or made.bytes != (folder / file).stat().length:
        return None
    if not is_remote(folder) and sha256_of(folder / file) != made.sha256:
        return None
    return made


def _write(job: ShardJob, temporary: Path, folder: epath.Path) -> ShardFile:
    """Writes a shard under another name, reads its digest and gives it its place."""
    features: Any = make_features(job.schema)
    serializer = ExampleSerializer(features.get_serialized_info())
    try:
        with _storage_faults(job.file):
            writer = array_record_module.ArrayRecordWriter(str(temporary), _OPTIONS)
        for image, objects in zip(job.images, job.objects, strict=True):
            example = make_example(
                job.schema,
                _read(image),
                image.name,
                image.image_id,
                image.size,
                objects,
            )
            record: Any = serializer.get_tf_example(features.encode_example(example))
            # The fields of an example are a map, whose order is else left to chance.
            with _storage_faults(job.file):
                writer.write(record.SerializeToString(deterministic=True))
        with _storage_faults(job.file):
            writer.close()
        made = ShardFile(
            job.file,
            sha256_of(temporary),
            temporary.stat().st_size,
            len(job.images),
            ends_sha256_of(temporary),
        )
        move_in(temporary, folder / job.file)
    finally:
        temporary.unlink(missing_ok=True)
    return made


@contextlib.contextmanager
def _storage_faults(file: str) -> Iterator[None]:
    """What array_record says of the storage, as the OSError that it is."""
    try:
        yield
    except RuntimeError as error:  # the writer has no type of its own
        reason = str(error).partition(";")[0]
        raise OSError(f"The shard {file} cannot be written: {reason}") from error


def _read(image: PackedImage) -> bytes:
    data = Path(image.path).read_bytes()
    if len(data) != image.num_bytes:
        raise ImageError(
            f"{image.path} has {len(data)} bytes; it had {image.num_bytes} when "
            "packing began. Its folder must not change meanwhile: start again."
        )
    return data


def _begin_worker() -> None:
    """Prepares a worker process, before its first shard."""
    # A terminal interrupts whole groups of processes. The parent decides what to do
    # then, and waits for the shards under way. SIGTERM is how a pool ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """In the block Ctrl-C waits, and in processes that it starts for ever.

    They hear nothing while they import either, before `_begin_worker`.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """Lets a worker end with the process that started it, even if that was killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
