"""SIGTERM outside a training loop: what clusters restart after, and the same bytes."""

import signal
import subprocess
import sys

import pytest

from exits_jax import exit_status, main
from exits_jax.phases import evaluate, generate, prepare
from exits_jax.run.workdir import Workdir
from exits_jax.train import checkpoints
from tests.faults.damage import back_to
from tests.support import toy
from tests.support.runs import whole_run as whole_run


def _signals_after(function):
    """Does it, and then the signal comes."""

    def call(*args, **options):
        found = function(*args, **options)
        signal.raise_signal(signal.SIGTERM)
        return found

    return call


# A function of each phase, after whose first call the signal comes, and what is made.
MOMENTS = {
    "prepare": (prepare, "write_image_names", "annotations/train.json"),
    "warmup": (checkpoints.Checkpoints, "close"),  # of a finished training
    "generate": (generate, "write_part", "pseudo_masks.json", "skipped.json"),
    "evaluate": (evaluate, "_measure", "evaluation.json"),
}


@pytest.fixture
def stopped(whole_run, dataset, tmp_path, request, monkeypatch, capsys):
    """Configuration, phase and results of a run that a signal stopped."""
    phase = request.param
    place, name, *makes = MOMENTS[phase]
    workdir = tmp_path / "run"
    back_to(whole_run, workdir, phase, step=0 if phase == "warmup" else None)
    config = toy.config_for(dataset, workdir, generate__part_size=8)
    with monkeypatch.context() as patch:
        patch.setattr(place, name, _signals_after(getattr(place, name)))
        assert main.run(config, phase) == exit_status.TRY_AGAIN
    said = capsys.readouterr().err
    assert "error: Asked to stop (SIGTERM). Run the same command again" in said
    assert "Traceback" not in said
    assert not Workdir(workdir).is_finished(phase)
    return config, phase, makes


@pytest.mark.parametrize("stopped", MOMENTS, indirect=True)
def test_a_phase_that_is_stopped_goes_on_to_the_same_bytes(stopped, whole_run):
    config, phase, makes = stopped
    assert main.run(config, phase) == exit_status.OK
    workdir = Workdir(config.workdir)
    for name in makes:
        assert (workdir / name).read_bytes() == (whole_run / name).read_bytes()
    assert not toy.leftovers(workdir.path)


def test_after_a_run_the_signal_is_again_whose_it_was(dataset, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    assert main.run(toy.config_for(dataset, tmp_path / "run"), "prepare") == 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_program_that_handles_the_signal_goes_on_doing_so(
    dataset, tmp_path, monkeypatch
):
    came = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append(1))
    try:
        monkeypatch.setitem(main.PHASES, "prepare", _signals_after(prepare.run))
        config = toy.config_for(dataset, tmp_path / "run")
        assert main.run(config, "prepare") == exit_status.OK
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [1]


LONG = """
import hashlib, sys
from exits_jax.run.reported import status_of
from exits_jax.train import termination
termination.GRACE_S = 0.1
def act():
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)

sys.exit(status_of(act))
"""


def test_a_call_that_takes_no_exception_is_ended_after_a_while():
    """As a compilation, within which Python handles no signal."""
    process = subprocess.Popen(
        [sys.executable, "-c", LONG],
        cwd=toy.ROOT,
        env=toy.environment(1),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    said = process.communicate()[1]
    assert process.returncode == exit_status.TRY_AGAIN, said
    assert "Asked to stop (SIGTERM)" in said and "Traceback" not in said
