"""Runs that are refused before anything is compiled, and errors of the devices."""

import jax
import jax.numpy as jnp
import pytest

from exits_jax import exit_status, main
from exits_jax.phases import train
from exits_jax.run.workdir import Workdir
from tests.support import toy


@pytest.fixture
def config(dataset, workdir):
    return toy.config_for(dataset, workdir, loss__method="mil_crf")


class _Begun(Exception):
    """Training would begin."""


@pytest.fixture(autouse=True)
def end_where_training_begins(monkeypatch):
    def end(*_):
        raise _Begun

    monkeypatch.setattr(train, "training_instances", end)


def test_f07_a_workdir_below_a_file_is_refused(config, workdir, capsys):
    (workdir / "file").write_text("")
    config.workdir = str(workdir / "file" / "run")
    assert main.run(config) == exit_status.USAGE
    assert "cannot be written: Not a directory" in capsys.readouterr().err


def test_f07_checkpoints_that_could_not_be_written_are_refused(config, workdir, capsys):
    (workdir / "checkpoints").write_text("")
    assert main.run(config, "train") == exit_status.USAGE
    assert "run/checkpoints is a file" in capsys.readouterr().err


def test_f11_another_architecture_is_refused_with_what_changed(config, capsys):
    with pytest.raises(_Begun):
        main.run(config, "train")
    config.model.dim, config.train.lr = 32, 0.5
    assert main.run(config, "train") == exit_status.USAGE
    said = capsys.readouterr().err
    assert "model.dim: was 16, is 32" in said and "train.lr: was 0.001, is 0.5" in said


def test_f15_a_second_run_in_the_workdir_is_refused(config, workdir, capsys):
    first = Workdir(workdir)
    first.open(config)
    assert main.run(config, "train") == exit_status.USAGE
    first.close()
    said = capsys.readouterr().err
    assert f"The workdir {workdir} is in use by process " in said and " since " in said


def test_f18_devices_without_memory_are_explained(config, capsys, monkeypatch):
    def exhaust(*_, **__):
        too_much = jax.jit(lambda: jnp.zeros((1 << 44,), jnp.float32) + 1)
        jax.block_until_ready(too_much())

    monkeypatch.setattr(train, "training_instances", exhaust)
    assert main.run(config, "train") == exit_status.FAILED
    said = capsys.readouterr().err
    assert "too little memory" in said and "--config.grad_accum" in said
    assert "Traceback" not in said
