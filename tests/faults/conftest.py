"""Data, and one run that nothing happened to."""

import shutil

import pytest

from exits_jax import main
from tests import toy
from tests.faults import commands
from tests.processes import finish_all


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    toy.write_dataset(folder)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="session")
def prepared(dataset, tmp_path_factory):
    """A work directory with the phases before training done."""
    workdir = tmp_path_factory.mktemp("prepared") / "run"
    config = toy.config_for(dataset, workdir, loss__method="mil_crf")
    assert main.run(config, "prepare") == main.OK
    return workdir


@pytest.fixture(scope="session")
def whole(dataset, prepared, cache, tmp_path_factory):
    """A run on one device without any fault."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(prepared, workdir)
    flags = commands.flags_for(dataset, workdir, train__keep_checkpoints=12)
    ((status, said),) = finish_all(commands.start(flags, cache))
    assert status == main.OK, said
    return workdir


@pytest.fixture
def workdir(prepared, tmp_path):
    """A copy to start training in."""
    shutil.copytree(prepared, tmp_path / "run")
    return tmp_path / "run"
