"""Stored labels by several processes, through the command."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from exits_jax import exit_status, main
from tests.support import toy
from tests.support.processes import finish_all, start_processes

NUM_OBJECTS, PART_SIZE = 20, 4  # five parts
CHANGES = {
    "labels.stored": True,
    "loss.mask": 1.0,
    "generate.click_depth": 0.2,
    "dense_crf.grid": 16,
    "walk.ridge_block": 1,
    "pretrain.enabled": True,  # for the walk to have attention
    "pretrain.steps": 2,
    "train.steps": 1,
    "generate.batch_size": 2,
    "generate.part_size": PART_SIZE,
}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Flags of a run whose generator is yet to be trained, and its workdir."""
    folder = tmp_path_factory.mktemp("labels")
    toy.write_dataset(folder / "data", num_images=NUM_OBJECTS // 2)
    config = toy.config_for(folder / "data", folder / "run", **CHANGES)
    flags = toy.as_flags(config)
    for phase in ("prepare", "pretrain"):
        assert main.run(config, phase) == exit_status.OK
    return flags, folder / "run"


def _run(flags: list[str], *, num_processes: int) -> None:
    """A phase on one device for each process."""
    started = start_processes(flags, num_processes=num_processes, devices=1)
    ends = finish_all(started)
    assert [status for status, _ in ends] == [0] * num_processes, ends


def _labels(pretrained, num_processes: int) -> np.ndarray:
    """The rows that so many processes store in a copy of the workdir."""
    flags, before = pretrained
    workdir = before.with_name(f"{num_processes}_processes")
    shutil.copytree(before, workdir)
    changed = [f"--workdir={workdir}", "--phase=train"]
    _run([*flags, *changed], num_processes=num_processes)
    assert _parts(workdir) == []
    return np.load(workdir / "labels" / "labels.npy")


def _parts(workdir: Path) -> list[Path]:
    return list((workdir / "labels").glob("parts/*"))


def test_two_processes_store_the_labels_that_one_stores(pretrained):
    alone = _labels(pretrained, 1)
    assert len(alone) == NUM_OBJECTS
    assert len(np.unique(alone, axis=0)) == NUM_OBJECTS  # none stands for another
    np.testing.assert_array_equal(_labels(pretrained, 2), alone)
