"""Ctrl-C ends the tests, also where the command that is tested would take it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from exits_jax import __main__ as command
from exits_jax import exit_status
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


# A command that is done, while a thread of a library is not.
AT_THE_END = """
import threading, time
from exits_jax import __main__ as command
command.console = lambda: print("done", flush=True) or 0
threading.Thread(target=time.sleep, args=(600,)).start()
command.entry()
"""


def test_ctrl_c_at_the_end_of_a_command_leaves_no_trace():
    process = subprocess.Popen(
        [sys.executable, "-c", AT_THE_END],
        cwd=toy.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "done\n"
    # The default action is set a moment later.
    wait_until(lambda: _ignores_python(process.pid), [process])
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=CEILING_S)
    assert (process.returncode, said) == (-signal.SIGINT, "")


def _ignores_python(pid):
    """Whether SIGINT is no longer caught by the interpreter."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return not caught >> (signal.SIGINT - 1) & 1


def test_ctrl_c_while_a_command_is_imported_is_a_word_and_a_status(monkeypatch, capsys):
    def interrupt(words):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_dispatch", interrupt)
    assert command.console(["run"]) == exit_status.INTERRUPTED
    assert capsys.readouterr().err == "error: Interrupted.\n"
