"""Whose a workdir is, who is at work in it, and where it goes on."""

import pytest
import torch

from exits_jax.stage2.errors import Stage2Error
from exits_jax.stage2.workdir import (
    TASK,
    claimed,
    newest_checkpoint,
    refuse_other_task,
)


def test_a_second_run_in_the_same_workdir_is_refused(tmp_path):
    with claimed(tmp_path / "run"):
        with pytest.raises(Stage2Error, match="Another run is at work in .*run"):
            with claimed(tmp_path / "run"):
                pass
    with claimed(tmp_path / "run"):
        pass


def test_a_workdir_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(Stage2Error, match="run cannot be written"):
        with claimed(tmp_path / "run"):
            pass


@pytest.mark.parametrize("text", ["{", "[1]", "\xff"])
def test_a_broken_record_of_the_task_is_an_error(tmp_path, text):
    (tmp_path / TASK).write_bytes(text.encode("latin-1"))
    with pytest.raises(Stage2Error, match="task.json cannot be read"):
        refuse_other_task(tmp_path, {"seed": 1})


def test_without_a_checkpoint_there_is_none_to_go_on_from(tmp_path):
    assert newest_checkpoint(tmp_path) is None


def test_the_checkpoint_is_found_after_the_folder_was_moved(tmp_path):
    torch.save({"meta": {"epoch": 0, "iter": 7}}, tmp_path / "iter_7.pth")
    (tmp_path / "last_checkpoint").write_text("/elsewhere/iter_7.pth")
    assert newest_checkpoint(tmp_path) == tmp_path / "iter_7.pth"


@pytest.mark.parametrize("named", ["", "iter_9.pth"])
def test_a_checkpoint_that_is_gone_is_an_error(tmp_path, named):
    (tmp_path / "last_checkpoint").write_text(named)
    with pytest.raises(Stage2Error, match="last_checkpoint names .* not in the folder"):
        newest_checkpoint(tmp_path)


def test_a_checkpoint_that_was_cut_off_is_an_error(tmp_path):
    path = tmp_path / "iter_7.pth"
    torch.save({"meta": {"iter": 7}, "state_dict": {"w": torch.zeros(999)}}, path)
    path.write_bytes(path.read_bytes()[:2000])
    (tmp_path / "last_checkpoint").write_text(str(path))
    with pytest.raises(Stage2Error, match="iter_7.pth is broken"):
        newest_checkpoint(tmp_path)
