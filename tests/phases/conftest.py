"""Runs that several tests look at, made once."""

import jax
import pytest

from configs import tiny
from exits_jax import main
from tests import toy


@pytest.fixture(scope="session")
def compile_cache(tmp_path_factory):
    """Runs of one shape compile once, in this process and in those it starts."""
    folder = tmp_path_factory.mktemp("compiled")
    names = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in names}
    for name, value in names.items():
        jax.config.update(name, value)
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """A folder with images and annotations."""
    folder = tmp_path_factory.mktemp("data")
    toy.write_dataset(folder)
    return folder


@pytest.fixture(scope="session")
def whole_run(dataset, tmp_path_factory, compile_cache):
    """Workdir of all phases on the data set, never interrupted, on four devices."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    assert main.run(toy.config_for(dataset, workdir)) == main.OK
    return workdir


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, compile_cache):
    """Workdir of configs/tiny.py through all phases."""
    config = tiny.get_config()
    config.workdir = str(tmp_path_factory.mktemp("runs") / "tiny")
    assert main.run(config) == main.OK
    return config
