"""A run of two processes that lose each other."""

import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from exits_jax import exit_status
from tests.faults import commands
from tests.faults.damage import back_to
from tests.support import toy
from tests.support.processes import finish_all, free_port
from tests.support.runs import whole_run as whole_run
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stopped(dataset, prepared, tmp_path_factory):
    """A run of which one process got SIGTERM."""
    workdir = tmp_path_factory.mktemp("pair") / "run"
    shutil.copytree(prepared, workdir)
    flags = commands.flags_for(dataset, workdir)
    started = commands.start(flags, num_processes=2, devices=1)
    wait_until(lambda: bool(commands.saved(workdir)), started)
    started[1].send_signal(signal.SIGTERM)
    return workdir, flags, finish_all(started)


def test_sigterm_to_one_process_stops_both_at_the_same_step(stopped):
    workdir, _, ends = stopped
    assert [status for status, _ in ends] == [exit_status.TRY_AGAIN] * 2, ends
    step = commands.saved(workdir)[-1]
    assert 10 <= step < commands.STEPS
    for _, said in ends:
        assert f"train was asked to stop and is saved at step {step}." in said


def test_sigterm_to_both_ends_their_labelling(dataset, whole_run, tmp_path):
    workdir = tmp_path / "run"
    back_to(whole_run, workdir, "generate")
    marker = workdir / "phases" / "generate.json"
    marker.unlink()
    config = toy.config_for(dataset, workdir)
    flags = [*toy.as_flags(config), "--phase=generate"]
    started = commands.start(flags, num_processes=2, devices=1)
    wait_until(marker.exists, started)
    for process in started:
        process.send_signal(signal.SIGTERM)
    ends = finish_all(started)
    assert [status for status, _ in ends] == [exit_status.TRY_AGAIN] * 2, ends
    for _, said in ends:
        assert "Asked to stop (SIGTERM)" in said and "Traceback" not in said


LONG = """
import hashlib, sys, time
import jax
port, number = sys.argv[1:]
jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(number))
from exits_jax.run.reported import status_of
from exits_jax.train import termination
termination.GRACE_S = 4.0
def act():
    jax.devices()
    print("begun", flush=True)
    if number == "0":
        time.sleep(600)
    hashlib.pbkdf2_hmac("md5", b"", b"", 2**31 - 1)

sys.exit(status_of(act))
"""


def test_the_first_process_leaves_after_one_that_takes_no_exception():
    """Else the runtime would abort that one long before its time is over."""
    port = free_port()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", LONG, str(port), str(number)],
            cwd=toy.ROOT,
            env=toy.environment(1),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]
    for process in started:
        while process.stdout and process.stdout.readline() != "begun\n":
            assert process.poll() is None
    for process in started:
        process.send_signal(signal.SIGTERM)
    ends = finish_all(started)
    assert [status for status, _ in ends] == [exit_status.TRY_AGAIN] * 2, ends


@pytest.fixture(scope="module")
def bereft(stopped):
    """The same run, of which one process was killed."""
    workdir, flags, _ = stopped
    before = commands.saved(workdir)[-1]
    flags = [*flags, "--heartbeat_s=10"]
    started = commands.start(flags, num_processes=2, devices=1)
    wait_until(lambda: commands.saved(workdir)[-1] > before, started)
    started[1].kill()
    return finish_all(started)[0]


def test_f05_a_process_that_loses_the_other_ends_with_an_error(bereft):
    status, said = bereft
    assert status not in (exit_status.OK, exit_status.TRY_AGAIN)
    assert "lost another process of this run" in said or "another task died" in said


def test_f05_f08_a_restart_of_both_goes_on_from_the_same_good_checkpoint(
    stopped, bereft, whole
):
    """The newest checkpoint is broken, and both fall back to the one before."""
    workdir, flags, _ = stopped
    *_, good, newest = commands.saved(workdir)
    (commands.folder(workdir) / str(newest) / "_CHECKPOINT_METADATA").unlink()
    ends = finish_all(commands.start(flags, num_processes=2, devices=1))
    assert [status for status, _ in ends] == [exit_status.OK] * 2, ends
    assert f"going on from step {good}" in ends[0][1]
    assert f"is now called {newest}.broken" in ends[0][1]
    found, wanted = commands.losses(workdir), commands.losses(whole)
    assert found.keys() == wanted.keys()
    np.testing.assert_allclose(list(found.values()), list(wanted.values()), rtol=1e-3)
