"""The input of a run on its way to the devices."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from exits_jax.batch import Batch
from exits_jax.train.checkpoints import InputPosition
from exits_jax.train.sharding import replicated, shard_batch

_logger = logging.getLogger(__name__)


class Input(NamedTuple):
    """What a run learns from.

    `position` has the input's shape; its `next_sample` is ignored.
    """

    open: Callable[[int], Iterator[Batch]]  # this process's rows from a step on
    position: InputPosition
    ids_of_step: Callable[[int], Sequence]  # annotation ids of a step, all processes
    image_name: Callable[[int], str]  # the image of a sample, by the sample's index
    stall_s: float = 120.0  # longer waits are said


def device_batches(
    rows: Iterator[Batch], mesh: Mesh, *, run: str, source: Input, ahead: int = 2
) -> Iterator[Batch]:
    """Global batches of a run, `ahead` of them on their way while one is in use.

    Copies to the devices are asynchronous, so that they overlap with computing. Waits
    for the input that are longer than `source.stall_s` are said once each, and so is
    every image that cannot be read.
    """
    ready: deque[Batch] = deque()
    warned: set[str] = set()
    for found in _watched(rows, run, source.stall_s):
        _warn_of_unreadable(found, source.image_name, warned)
        ready.append(shard_batch(mesh, found))
        if len(ready) >= ahead:
            yield ready.popleft()
    yield from ready


def unreadable_counter(mesh: Mesh) -> Callable[[Batch], Float[Array, ""]]:
    """Compiled: rows of a global batch that are masked as their image is unreadable."""

    def count(valid, index):
        return (~valid & (index >= 0)).sum().astype(jnp.float32)

    compiled = jax.jit(count, out_shardings=replicated(mesh))
    return lambda batch: compiled(batch["valid"], batch["index"])


def _watched(rows: Iterator[Batch], run: str, stall_s: float) -> Iterator[Batch]:
    def warn() -> None:
        _logger.warning(
            "%s: waiting for input since %g s. Slow or hanging storage?", run, stall_s
        )

    while True:
        alarm = threading.Timer(stall_s, warn)
        alarm.daemon = True
        alarm.start()
        try:
            found = next(rows)
        except StopIteration:
            return
        finally:
            alarm.cancel()
        yield found


def _warn_of_unreadable(
    rows: Batch, image_name: Callable[[int], str], warned: set[str]
) -> None:
    if "index" not in rows or rows["valid"].all():
        return
    for index in rows["index"][~rows["valid"] & (rows["index"] >= 0)].tolist():
        name = image_name(index)
        if name not in warned:
            warned.add(name)
            _logger.warning("%s cannot be read; its objects are left out.", name)
