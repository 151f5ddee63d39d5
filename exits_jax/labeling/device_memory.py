"""Batches in pieces that fit into the memory of the devices."""

import logging
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import NamedTuple

import jax
import numpy as np
from jax.errors import JaxRuntimeError

from exits_jax.batch import Batch, map_fields, num_rows
from exits_jax.run.workdir import ConfigError
from exits_jax.train.sharding import local_rows

_logger = logging.getLogger(__name__)


class Started(NamedTuple):
    """A batch at work on the devices."""

    rows: Batch
    size: int  # rows of a piece
    results: list[jax.Array]


class Pieces:
    """Sends batches to the devices, in halves once one was too large for them.

    The last bits of a result may depend on the rows that the devices take at a time,
    so two runs agree byte for byte only if neither had to halve.
    """

    def __init__(
        self, predict: Callable[[Batch], jax.Array], *, num_rows: int, num_devices: int
    ):
        """Starts with whole batches.

        Args:
            predict: From rows, a multiple of the devices, to one result per row.
            num_rows: Rows of a batch.
            num_devices: Devices that share them.
        """
        self._predict = predict
        self._num_devices = num_devices
        self._size = _rounded_up(num_rows, num_devices)

    def start(self, rows: Batch) -> Started:
        """Begins a batch without waiting for it.

        Raises:
            ConfigError: If not even one row per device fits.
        """
        while True:
            size = self._size
            try:
                results = [self._predict(piece) for piece in _pieces(rows, size)]
                return Started(rows, size, results)
            except JaxRuntimeError as error:
                self._halve(size, error)

    def finish(self, started: Started) -> np.ndarray:
        """The results of a batch, row by row; its memory may run out only here.

        Raises:
            ConfigError: If not even one row per device fits.
        """
        total = num_rows(started.rows)
        while True:
            try:
                found = np.concatenate([local_rows(x) for x in started.results])
                return found[:total]
            except JaxRuntimeError as error:
                self._halve(started.size, error)
                started = self.start(started.rows)

    def _halve(self, size: int, error: RuntimeError) -> None:
        """Goes on with half the rows that were too many; other errors are raised."""
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise error
        first_line = str(error).partition("\n")[0]
        if size <= self._num_devices:
            raise ConfigError(
                f"The memory of the {self._num_devices} device(s) of this process does "
                "not hold one crop each, the least there can be. Use devices with more "
                "memory, or train with a smaller model.size or crop.size. The device "
                f"says: {first_line}"
            ) from error
        half = _rounded_up(size // 2, self._num_devices)
        if half >= self._size:  # halved before, by a batch that was begun later
            return
        self._size = half
        _logger.warning(
            "%d crops at a time are too many for the memory of the devices: going on "
            "with %d. A smaller generate.batch_size saves the attempt. The device "
            "says: %s",
            size,
            half,
            first_line,
        )


def _pieces(rows: Batch, size: int) -> Iterator[Batch]:
    """A batch in pieces of equal size; repeats of the last row fill up the last one."""
    total = num_rows(rows)
    if total == size:
        yield rows
        return
    for start in range(0, total, size):
        order = np.minimum(np.arange(start, start + size), total - 1)
        yield map_fields(itemgetter(order), rows)


def _rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
