"""Ctrl-C ends the tests, also where the command that is tested would take it."""

import signal
import subprocess
import sys

import pytest

from tests.support import toy
from tests.support.waiting import CEILING_S, wait_until

# As a training does: it is asked to stop, and the command makes a status of it.
TESTS = """
import time
from pathlib import Path
from configs import tiny
from exits_jax import main
from exits_jax.train.stopping import StopRequests

HERE = Path(__file__).parent

def train(config, workdir):
    with StopRequests("train") as stops:
        (HERE / "trains").touch()
        while not stops.is_due():
            time.sleep(0.01)
    raise KeyboardInterrupt

def test_that_trains(monkeypatch):
    monkeypatch.setitem(main.PHASES, "prepare", train)
    config = tiny.get_config()
    config.workdir = str(HERE / "run")
    main.run(config, "prepare")

def test_that_follows():
    (HERE / "followed").touch()
"""


def test_ctrl_c_during_a_training_ends_the_tests(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    plain = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-p", "no:xdist"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *plain, str(tmp_path / "test_it.py")],
        cwd=toy.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_until((tmp_path / "trains").exists, [process])
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=CEILING_S)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, said
    assert not (tmp_path / "followed").exists()
