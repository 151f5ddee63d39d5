import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grain
import numpy as np
import pytest

from exits_jax.data.workers import WorkerLost, start
from tests.support.waiting import wait_until


class Slow:
    """Batches that take a while; says which process made them."""

    def __call__(self, number):
        time.sleep(0.05)
        return {"number": np.array(number), "process": np.array(os.getpid())}


def batches(num_workers, count=10**4):
    return start(grain.MapDataset.range(count).map(Slow()), num_workers, 1, 2)


def is_alive(process):
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_killed_worker_is_an_error_that_names_it(num_workers):
    iterator = batches(num_workers)
    victim = int([next(iterator) for _ in range(num_workers)][-1]["process"])
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(WorkerLost, match=rf"number \d \(process {victim}\).*code -9"):
        for _ in range(1000):
            next(iterator)
    iterator.close()
    with pytest.raises(StopIteration):
        next(iterator)


def test_a_worker_killed_before_its_first_batch_is_an_error():
    iterator = start(grain.MapDataset.range(9).map(Deadly()), 1, 1, 2)
    with pytest.raises(WorkerLost, match=r"Of the 1 workers .* code -9"):
        next(iterator)


class Deadly:
    """Kills the process that asks for a batch."""

    def __call__(self, number):
        os.kill(os.getpid(), signal.SIGKILL)


class Wrong:
    """Fails as code does."""

    def __call__(self, number):
        raise RuntimeError(f"batch {number} is wrong")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_in_a_batch_is_not_taken_for_a_lost_worker(num_workers):
    iterator = start(grain.MapDataset.range(9).map(Wrong()), num_workers, 1, 2)
    with pytest.raises(RuntimeError, match="batch 0 is wrong") as found:
        next(iterator)
    assert not isinstance(found.value, WorkerLost)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_leaves_workers_at_work(number):
    with_first = batches(1)
    os.kill(int(next(with_first)["process"]), number)
    found = [int(next(with_first)["number"]) for _ in range(20)]
    with_first.close()
    assert found == list(range(1, 21))


def test_close_ends_the_workers():
    iterator = batches(2)
    processes = {int(next(iterator)["process"]) for _ in range(4)}
    assert len(processes) == 2
    iterator.close()
    assert not any(map(is_alive, processes))


def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        "import time\n"
        "from tests.data.test_workers import batches\n"
        "if __name__ == '__main__':\n"
        "    iterator = batches(1)\n"
        "    print(int(next(iterator)['process']), flush=True)\n"
        "    time.sleep(3600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    assert is_alive(worker)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not is_alive(worker))
