"""What is said as each phase of a command begins."""

import logging

import pytest

from configs import tiny
from exits_jax.main import PHASES
from exits_jax.run.announce import announce
from exits_jax.run.phase_order import sections
from exits_jax.run.workdir import ConfigError, Workdir


@pytest.fixture
def config(tmp_path):
    config = tiny.get_config()
    config.workdir = str(tmp_path)
    return config


def _finish(config, *phases, **facts):
    workdir = Workdir(config.workdir)
    for phase in phases:
        workdir.start(phase, config, sections(config, phase))
        workdir.finish(phase, **facts)


def _said(config, caplog, phase, plan=tuple(PHASES)):
    with caplog.at_level(logging.INFO, logger="exits_jax"):
        announce(config, Workdir(config.workdir), phase, plan)
    return [record.message for record in caplog.records]


def test_a_phase_is_counted_among_those_of_the_command(config, caplog):
    _finish(config, "prepare", "pretrain")
    assert _said(config, caplog, "warmup") == ["phase 3 of 6: warmup, 6 steps"]


def test_a_phase_without_a_use_is_not_counted(config, caplog):
    config.pretrain.enabled = False
    _finish(config, "prepare")
    assert _said(config, caplog, "warmup") == ["phase 2 of 5: warmup, 6 steps"]


def test_a_phase_that_is_asked_for_and_has_no_use_says_so(config, caplog):
    config.pretrain.enabled = False
    said = _said(config, caplog, "pretrain", ["pretrain"])
    assert said == ["phase pretrain: not used by this configuration"]


def test_a_phase_that_was_done_before_says_so(config, caplog):
    _finish(config, "prepare")
    assert _said(config, caplog, "prepare") == ["phase 1 of 6: prepare: done before"]


def test_a_phase_that_is_done_again_does_not_say_that_it_was_done(config, caplog):
    _finish(config, *PHASES)
    config.evaluate.num_pictures = 7
    assert _said(config, caplog, "evaluate") == ["phase 6 of 6: evaluate"]


def test_generate_says_how_many_objects_of_its_splits_there_are(config, caplog):
    counts = {"train": {"objects": 48}, "val": {"objects": 17}}
    _finish(config, *list(PHASES)[:4], counts=counts)
    config.generate.splits = ("val",)
    assert _said(config, caplog, "generate") == ["phase 5 of 6: generate, 17 objects"]


@pytest.mark.parametrize(
    ("start_steps", "steps", "epochs", "length"),
    [
        (6, 30, 1.0, "6 + 30 steps"),
        (0, 30, 1.0, "30 steps"),
        (0, None, 1.0, "1 epoch"),
        (6, None, 2.5, "6 steps + 2.5 epochs"),
    ],
)
def test_a_training_says_how_long_it_is(
    config, caplog, start_steps, steps, epochs, length
):
    config.train.update(start_steps=start_steps, steps=steps, epochs=epochs)
    _finish(config, "prepare", "pretrain", "warmup")
    assert _said(config, caplog, "train") == [f"phase 4 of 6: train, {length}"]


def test_what_a_phase_builds_on_is_looked_for_before_anything_is_said(config, caplog):
    with pytest.raises(ConfigError, match="finished phase prepare"):
        _said(config, caplog, "train")
    assert not caplog.records


def test_a_tool_speaks_for_itself(config, caplog):
    assert _said(config, caplog, "export", ["export"]) == []
