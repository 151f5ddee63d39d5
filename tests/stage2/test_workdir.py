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


def whole():
    """What a checkpoint holds at least."""
    weights = {"w": torch.ones(999), "k": torch.ones(3, dtype=torch.int64)}
    return {"meta": {"iter": 7}, "message_hub": {}, "state_dict": weights}


def saved(folder, content):
    path = folder / "iter_7.pth"
    torch.save(content, path)
    (folder / "last_checkpoint").write_text(str(path))
    return path


def test_without_a_checkpoint_there_is_none_to_go_on_from(tmp_path):
    assert newest_checkpoint(tmp_path) is None


def test_the_checkpoint_is_found_after_the_folder_was_moved(tmp_path):
    saved(tmp_path, whole())
    (tmp_path / "last_checkpoint").write_text("/elsewhere/iter_7.pth")
    assert newest_checkpoint(tmp_path) == tmp_path / "iter_7.pth"


@pytest.mark.parametrize("named", ["", "iter_9.pth"])
def test_a_checkpoint_that_is_gone_is_an_error(tmp_path, named):
    (tmp_path / "last_checkpoint").write_text(named)
    with pytest.raises(Stage2Error, match="last_checkpoint names .* not in the folder"):
        newest_checkpoint(tmp_path)


def test_a_checkpoint_that_was_cut_off_is_an_error(tmp_path):
    path = saved(tmp_path, whole())
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(Stage2Error, match="iter_7.pth is broken"):
        newest_checkpoint(tmp_path)


def test_a_bit_that_was_flipped_is_found(tmp_path):
    """PyTorch reads other weights without a word."""
    path = saved(tmp_path, whole())
    data = bytearray(path.read_bytes())
    data[data.index(torch.ones(9).numpy().tobytes()) + 2] ^= 64
    path.write_bytes(data)
    assert torch.load(path)["state_dict"]["w"].sum() != 999
    with pytest.raises(Stage2Error, match="iter_7.pth is broken: its part .*data/0 is"):
        newest_checkpoint(tmp_path)


WRONG = {
    "it has no meta": {"meta"},
    "it has no state_dict": {"state_dict"},
    "it has no meta, state_dict, message_hub": {"meta", "state_dict", "message_hub"},
}


@pytest.mark.parametrize("said", WRONG)
def test_a_checkpoint_without_its_parts_is_an_error(tmp_path, said):
    """Without weights mmengine goes on from random ones."""
    content = {k: v for k, v in whole().items() if k not in WRONG[said]}
    saved(tmp_path, content or [1])
    with pytest.raises(Stage2Error, match=f"iter_7.pth is broken: {said}"):
        newest_checkpoint(tmp_path)


def test_a_checkpoint_that_is_nan_is_an_error(tmp_path):
    content = whole()
    content["state_dict"]["w"][5] = torch.nan
    saved(tmp_path, content)
    with pytest.raises(Stage2Error, match="w holds NaN or infinities"):
        newest_checkpoint(tmp_path)
