"""Commands that are given to a finished run: longer, again, with other values."""

import json
import shutil

import pytest

from exits_jax import __main__ as command
from exits_jax import exit_status
from tests.support import toy


@pytest.fixture
def finished(whole_run, tmp_path):
    """A copy of a finished run; its 30 steps are done."""
    shutil.copytree(whole_run, tmp_path / "my run")
    return tmp_path / "my run"


def _do(workdir, *words):
    """Runs a command with the workdir alone: that is all it needs."""
    assert (
        command.console([words[0], f"--workdir={workdir}", *words[1:]])
        == exit_status.OK
    )


def test_evaluate_makes_the_masks_again_where_their_fields_change(finished, capsys):
    before = (finished / "pseudo_masks.json").read_bytes()
    _do(finished, "evaluate", "--config.generate.threshold=0.3")
    said = capsys.readouterr().err
    assert "generate is done again (generate.threshold: was 0.5, is 0.3)" in said
    assert (finished / "pseudo_masks.json").read_bytes() != before
    found = json.loads((finished / "evaluation.json").read_text())
    assert found["mask_threshold"] == 0.3
    _do(finished, "evaluate")  # the workdir has the new value now
    assert "phase 1 of 1: evaluate: done before" in capsys.readouterr().err


def test_a_training_goes_on_to_its_new_length(finished, capsys):
    old = toy.checkpoint(finished, "train")
    _do(finished, "run", "--config.train.steps=34")
    said = capsys.readouterr().err
    assert "train goes on from its last checkpoint" in said
    assert "(train.steps: was 30, is 34)" in said
    assert "train: going on from step 30" in said and "generate is done again" in said
    new = toy.checkpoint(finished, "train")
    assert (old["step"], new["step"]) == (30, 34)
    assert [row["step"] for row in toy.rows(finished, "train")] == list(range(1, 35))
    rates = [row["optimizer/learning_rate"] for row in toy.rows(finished, "train")]
    schedule = json.loads((finished / "config.json").read_text())["train"]
    assert schedule["steps"] == 34 and rates[30] > rates[29]  # of the longer run


def test_redo_trains_again_with_other_values(finished, capsys):
    warmup = toy.checkpoint(finished, "warmup")
    _do(finished, "run", "--redo=train", "--config.train.steps=3")
    said = capsys.readouterr().err
    assert f"removed: {finished / 'checkpoints/train'} (" in said
    assert f"removed: {finished / 'pseudo_masks.json'} (1 file" in said
    assert "removed" in (finished / "log.txt").read_text()
    toy.assert_same(warmup, toy.checkpoint(finished, "warmup"))
    assert toy.checkpoint(finished, "train")["step"] == 3
    assert [row["step"] for row in toy.rows(finished, "train")] == [1, 2, 3]
    assert (finished / "evaluation.json").exists()
