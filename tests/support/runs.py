"""Runs that several tests look at, made once."""

import pytest

from configs import tiny
from exits_jax import exit_status, main
from tests.support import toy


@pytest.fixture(scope="session")
def dataset(made_once):
    """A folder with images and annotations; not to be changed."""
    return made_once("dataset", toy.write_dataset)


@pytest.fixture(scope="session")
def whole_run(dataset, made_once):
    """Workdir of all phases on the data set, never interrupted, on four devices."""

    def run(workdir):
        assert main.run(toy.config_for(dataset, workdir)) == exit_status.OK

    return made_once("whole_run", run)


@pytest.fixture(scope="session")
def tiny_run(made_once):
    """Configuration of configs/tiny.py, whose phases are done."""
    config = tiny.get_config()

    def run(workdir):
        config.workdir = str(workdir)
        assert main.run(config) == exit_status.OK

    config.workdir = str(made_once("tiny_run", run))
    return config
