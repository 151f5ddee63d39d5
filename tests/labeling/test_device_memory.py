"""Batches that are too large for the memory of the devices."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.errors import JaxRuntimeError

from exits_jax.labeling import device_memory
from exits_jax.labeling.device_memory import Pieces
from exits_jax.run.workdir import ConfigError

OUT = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.\nmore"


class Device:
    """Doubles numbers, so many at a time; counts what it is asked for."""

    def __init__(self, room, *, error=OUT):
        self.room, self.error, self.sizes = room, error, []

    def __call__(self, rows):
        size = len(rows["x"])
        self.sizes.append(size)
        if size > self.room:
            raise JaxRuntimeError(self.error)
        return jnp.asarray(rows["x"]) * 2


def batch(size):
    return {"x": np.arange(size, dtype=np.float32)}


def through(in_pieces, *sizes):
    """Each batch is begun before the one before is fetched, as in labelling."""
    results, before = [], None
    for size in sizes:
        started = in_pieces.start(batch(size))
        if before is not None:
            results.append(in_pieces.finish(before))
        before = started
    return [*results, in_pieces.finish(before)]


@pytest.fixture
def warnings(monkeypatch):
    """What the module warns of, as texts."""
    said = []
    note = lambda text, *values: said.append(text % values)
    monkeypatch.setattr(logging.getLogger(device_memory.__name__), "warning", note)
    return said


@pytest.mark.parametrize("room", [1, 2, 3, 5, 8])
def test_results_are_complete_and_in_order_whatever_fits(room):
    device = Device(room)
    found = through(Pieces(device, num_rows=8, num_devices=1), 8, 8, 8)
    assert len(found) == 3
    for result in found:
        np.testing.assert_array_equal(result, 2 * batch(8)["x"])


def test_rows_are_filled_up_to_a_multiple_of_the_devices_and_dropped_again():
    device = Device(100)
    (found,) = through(Pieces(device, num_rows=5, num_devices=4), 5)
    assert device.sizes == [8]
    np.testing.assert_array_equal(found, 2 * batch(5)["x"])


def test_too_large_a_batch_is_halved_once_and_stays_halved(warnings):
    device = Device(4)
    through(Pieces(device, num_rows=8, num_devices=2), 8, 8, 8)
    assert device.sizes == [8, 4, 4, 4, 4, 4, 4]
    (warning,) = warnings
    assert "8 crops at a time are too many" in warning
    assert "going on with 4" in warning


def test_memory_that_runs_out_when_results_are_fetched_is_met_likewise(
    monkeypatch, warnings
):
    fetch = device_memory.local_rows

    def fetch_few(array):
        if len(array) > 2:
            raise JaxRuntimeError(OUT)
        return fetch(array)

    monkeypatch.setattr(device_memory, "local_rows", fetch_few)
    found = through(Pieces(Device(100), num_rows=8, num_devices=1), 8, 8, 8)
    for result in found:
        np.testing.assert_array_equal(result, 2 * batch(8)["x"])
    assert len(warnings) == 2  # 8 to 4, 4 to 2: not again for the batch behind


def test_the_least_batch_has_one_row_per_device_and_then_says_what_to_do():
    device = Device(1)
    in_pieces = Pieces(device, num_rows=8, num_devices=2)
    with pytest.raises(ConfigError, match="crop.size") as caught:
        in_pieces.start(batch(8))
    assert device.sizes == [8, 4, 2]
    assert "2 device(s)" in str(caught.value)
    assert "allocate 9 bytes." in str(caught.value)


def test_other_errors_of_the_device_are_not_hidden():
    in_pieces = Pieces(Device(1, error="INTERNAL: broken"), num_rows=8, num_devices=1)
    with pytest.raises(JaxRuntimeError, match="INTERNAL: broken"):
        in_pieces.start(batch(8))


def test_the_error_of_a_real_device_is_of_the_kind_that_is_expected():
    assert issubclass(JaxRuntimeError, RuntimeError)
    huge = jax.jit(lambda: jnp.ones((2**22, 2**22), jnp.float32) + 1)
    with pytest.raises(JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        jax.block_until_ready(huge())
