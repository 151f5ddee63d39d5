import json
import logging
import os
import re
import shutil
import subprocess
import sys

import pytest

from configs import tiny
from exits_jax.run import outputs
from exits_jax.run import workdir as workdir_module
from exits_jax.run.workdir import FOLDERS, ConfigError, Workdir

SECTIONS = ("seed", "train")


@pytest.fixture
def workdir(tmp_path):
    made = Workdir(tmp_path / "run")
    made.open(tiny.get_config())
    yield made
    made.close()


def test_a_phase_is_done_once(workdir):
    config = tiny.get_config()
    assert workdir.start("train", config, SECTIONS)
    assert workdir.start("train", config, SECTIONS)  # it was interrupted
    workdir.finish("train", count=3)
    assert not workdir.start("train", config, SECTIONS)
    assert workdir.facts("train") == {"count": 3}


def test_another_configuration_is_refused_with_what_changed(workdir):
    config = tiny.get_config()
    workdir.start("train", config, SECTIONS)
    config.train.lr = 0.25
    with pytest.raises(ConfigError, match="train.lr: was 0.001, is 0.25"):
        workdir.start("train", config, SECTIONS)


def test_another_configuration_does_not_overwrite_the_record(workdir):
    config = tiny.get_config()
    workdir.start("train", config, SECTIONS)
    workdir.close()
    config.train.lr = 0.25
    with pytest.raises(ConfigError, match="another configuration"):
        Workdir(workdir.path).open(config, {"train": SECTIONS})
    recorded = json.loads((workdir / "config.json").read_text())
    assert recorded["train"]["lr"] == 0.001


@pytest.mark.parametrize(
    "name, value",
    [
        ("train.checkpoint_every", 77),
        ("train.best_metric", "loss/total"),
        ("train.max_bad_steps", 3),
        ("train.strict_resume", True),
        ("data.stall_s", 5.0),
        ("model.remat", "block"),
    ],
)
def test_fields_that_change_no_result_may_change(workdir, name, value):
    sections = (*SECTIONS, "data", "model")
    config = tiny.get_config()
    workdir.start("train", config, sections)
    config.update_from_flattened_dict({name: value})
    assert workdir.start("train", config, sections)


def test_fields_of_other_phases_may_change(workdir):
    config = tiny.get_config()
    workdir.start("train", config, SECTIONS)
    config.generate.threshold = 0.3
    assert workdir.start("train", config, SECTIONS)


def test_a_missing_phase_is_named(workdir):
    with pytest.raises(ConfigError, match="Run `exits-jax prepare` first"):
        workdir.require("prepare", "warmup")


def test_another_process_is_refused_and_told_who_is_at_work(workdir):
    code = (
        "import sys; from exits_jax.run.workdir import Workdir; "
        "from configs import tiny; "
        "Workdir(sys.argv[1]).open(tiny.get_config())"
    )
    command = [sys.executable, "-c", code, str(workdir.path)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert f"is in use by process {os.getpid()} on " in refused.stderr
    assert re.search(r" since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", refused.stderr)


def test_a_closed_folder_is_free(workdir):
    workdir.close()
    again = Workdir(workdir.path)
    again.open(tiny.get_config())
    again.close()


def test_a_refusal_leaves_the_owner_named(workdir):
    second, third = Workdir(workdir.path), Workdir(workdir.path)
    messages = []
    for late in (second, third):
        with pytest.raises(ConfigError) as found:
            late.open(tiny.get_config())
        messages.append(str(found.value))
    assert messages[0] == messages[1] and "process " in messages[0]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written: Not a directory"):
        Workdir(tmp_path / "file" / "run").open(tiny.get_config())


@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("")
    with pytest.raises(ConfigError, match=f"run/{name} is a file"):
        Workdir(tmp_path / "run").open(tiny.get_config())
    Workdir(tmp_path / "run").close()


OPEN = (
    "import sys; from exits_jax.run.workdir import Workdir; "
    "from configs import tiny; Workdir(sys.argv[1]).open(tiny.get_config())"
)
# Root may write everywhere, unless it gives that up.
AS_USER = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]


@pytest.mark.parametrize("name", [".", "checkpoints", "phases"])
def test_a_folder_that_is_read_only_is_refused(tmp_path, name):
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("needs setpriv where root runs the tests")
    folder = tmp_path / "run" / name
    folder.mkdir(parents=True)
    folder.chmod(0o555)
    command = [sys.executable, "-c", OPEN, str(tmp_path / "run")]
    if os.geteuid() == 0:
        command = AS_USER + command
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    folder.chmod(0o755)
    assert refused.returncode == 1
    assert "cannot be written: Permission denied" in refused.stderr


def test_what_another_process_cannot_open_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(workdir_module, "all_agree", lambda _: False)
    with pytest.raises(ConfigError, match="Another process of this run"):
        Workdir(tmp_path / "run").open(tiny.get_config())
    monkeypatch.undo()
    free = Workdir(tmp_path / "run")  # it is not held by who was refused
    free.open(tiny.get_config())
    free.close()


def _done(workdir, config, *phases, sections=("train",)):
    for phase in phases:
        workdir.start(phase, config, sections)
        workdir.finish(phase)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"steps": 4}, {"steps": 8}),
        ({"steps": None, "epochs": 1.0}, {"steps": None, "epochs": 1.5}),
    ],
)
def test_a_training_may_become_longer(workdir, caplog, before, after):
    config = tiny.get_config()
    config.train.update(before)
    _done(workdir, config, "train", "generate")
    config.train.update(after)
    caplog.set_level(logging.INFO)
    assert workdir.is_outdated("train", config, ("train",))
    assert workdir.start("train", config, ("train",))
    assert "train goes on from its last checkpoint" in caplog.text
    assert workdir.start("generate", config, ("train",))  # of another generator
    assert "generate is done again (train." in caplog.text


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ({"steps": 8}, {"steps": 4}, "train.steps: was 8, is 4"),
        ({"steps": 8}, {"steps": None}, "train.steps: was 8, is None"),
        ({"steps": None}, {"steps": 800}, "train.steps: was None, is 800"),
        ({"steps": 4}, {"steps": 8, "lr": 0.5}, "train.lr: was 0.001, is 0.5"),
    ],
)
def test_another_training_is_refused(workdir, before, after, named):
    config = tiny.get_config()
    config.train.update(before)
    _done(workdir, config, "train")
    config.train.update(after)
    with pytest.raises(ConfigError, match=named):
        workdir.start("train", config, ("train",))


def test_epochs_do_not_matter_where_steps_are_given(workdir):
    config = tiny.get_config()
    _done(workdir, config, "train")
    config.train.epochs = 0.5
    assert not workdir.start("train", config, ("train",))


def test_a_longer_warmup_makes_the_training_another_one(workdir):
    config = tiny.get_config()
    config.warmup.steps = 4
    _done(workdir, config, "warmup", "train", sections=("warmup", "train"))
    config.warmup.steps = 8
    assert workdir.is_outdated("warmup", config, ("warmup", "train"))
    with pytest.raises(ConfigError, match="--redo=train"):
        workdir.start("train", config, ("warmup", "train"))


def test_a_refused_command_leaves_the_record_alone(workdir):
    config = tiny.get_config()
    config.train.steps = 4
    _done(workdir, config, "train")
    workdir.close()
    before = (workdir / "config.json").read_bytes()
    config.train.steps = 8
    with pytest.raises(ConfigError, match="Lengthen it first with `exits-jax train`"):
        Workdir(workdir.path).open(
            config, {"evaluate": ("train",)}, builds_on={"train": ("train",)}
        )
    assert (workdir / "config.json").read_bytes() == before


def _fill(workdir, *phases):
    """Something in every place where phases leave something."""
    for name in (name for phase in phases for name in outputs.MADE[phase]):
        path = workdir / name
        if path.suffix:
            path.write_text("old")
        else:
            path.mkdir(parents=True)
            (path / "old").write_text("old")


def test_redo_removes_a_phase_and_what_follows_it_and_says_what(workdir, caplog):
    config = tiny.get_config()
    _done(workdir, config, *outputs.MADE)
    _fill(workdir, *outputs.MADE)
    workdir.close()
    config.train.lr = 0.5
    caplog.set_level(logging.INFO)
    again = Workdir(workdir.path)
    again.open(config, {"train": ("train",)}, redo="train")
    again.close()
    kept = outputs.found(workdir.path, list(outputs.MADE))
    assert kept == outputs.found(workdir.path, ["prepare", "pretrain", "warmup"]) != []
    assert again.is_finished("warmup") and not again.is_finished("train")
    for name in (
        *outputs.MADE["train"],
        *outputs.MADE["generate"],
        *outputs.MADE["evaluate"],
    ):
        assert f"removed: {workdir / name} (1 file" in caplog.text


def test_nothing_is_removed_if_an_earlier_phase_is_of_another_configuration(workdir):
    config = tiny.get_config()
    _done(workdir, config, "warmup", "train", sections=("model",))
    _fill(workdir, "train")
    workdir.close()
    config.model.dim = 4
    phases = {"warmup": ("model",), "train": ("model",)}
    with pytest.raises(ConfigError, match="--redo=warmup, which removes checkpoints/"):
        Workdir(workdir.path).open(config, phases, redo="train")
    assert outputs.found(workdir.path, ["train"]) == list(outputs.MADE["train"])


def test_a_removal_that_was_killed_is_finished_by_the_next_command(
    workdir, monkeypatch
):
    config = tiny.get_config()
    _done(workdir, config, "train", "generate")
    _fill(workdir, "train", "generate")
    workdir.close()

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(outputs, "remove", die)
    killed = Workdir(workdir.path)
    with pytest.raises(KeyboardInterrupt):
        killed.open(config, {"train": ("train",)}, redo="train")
    killed.close()
    monkeypatch.undo()
    after = Workdir(workdir.path)
    after.open(config, {"train": ("train",)})
    assert not outputs.found(workdir.path, ["train", "generate"])
    assert not after.is_finished("train") and not after.is_finished("generate")
    after.close()
