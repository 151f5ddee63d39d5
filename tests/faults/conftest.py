"""Data, and one run that nothing happened to.

Where each fault is tested; those of this folder through the whole command:

F01 SIGTERM in a step            phases/test_train, train/test_loop, test_processes
F02 killed while saving          test_training, train/test_checkpoints
F03 SIGINT, once and twice       test_training, train/test_loop
F04 a worker is killed           data/test_stream
F05 a process of two is killed   test_processes
F06 the disk is full             test_training, train/test_checkpoints, test_metric_log
F07 a workdir that is read-only  test_refusals, phases/test_workdir
F08 a broken newest checkpoint   test_training, test_processes, train/test_checkpoints
F09 a copy without its end       train/test_checkpoints
F10 other devices on restart     test_training, ../test_scale
F11 another configuration        test_refusals, phases/test_workdir
F12 losses that are not finite   test_training, train/test_loop, train/test_step
F13 an image breaks later        data/test_batches, train/test_masked_rows, test_loop
F14 storage that fails or hangs  data/test_retries, train/test_loop
F15 a second trainer             test_refusals, phases/test_workdir
F16 labelling is killed          phases/test_generate_processes, test_parts
F17 parts of another run         phases/test_generate_processes, test_parts
F18 devices without memory       test_refusals, phases/test_pieces
F19 fewer samples than devices   data/test_batches, phases/test_generate_processes
F20 time zone, locale, no HOME   test_training
SIGTERM outside a training       test_sigterm, test_processes
damaged files of a workdir       test_damage, phases/test_damaged_files, test_seals
data replaced by others          run/test_identity
a workdir that was moved         phases/test_moved
leftovers of SIGKILL             files/test_leftovers
"""

import shutil

import pytest

from exits_jax import exit_status, main
from tests.faults import commands
from tests.support import toy


@pytest.fixture(scope="session")
def dataset(made_once):
    return made_once("dataset", toy.write_dataset)


@pytest.fixture(scope="session")
def prepared(dataset, made_once):
    """A work directory with the phases before training done."""

    def run(workdir):
        config = toy.config_for(dataset, workdir, loss__method="mil_crf")
        assert main.run(config, "prepare") == exit_status.OK

    return made_once("prepared", run)


@pytest.fixture(scope="session")
def whole(dataset, prepared, made_once):
    """A run on four devices without any fault."""

    def run(workdir):
        shutil.copytree(prepared, workdir)
        config = commands.config_for(dataset, workdir, train__keep_checkpoints=12)
        assert main.run(config, "train") == exit_status.OK

    return made_once("faults_whole", run)


@pytest.fixture
def workdir(prepared, tmp_path):
    """A copy to start training in."""
    shutil.copytree(prepared, tmp_path / "run")
    return tmp_path / "run"
