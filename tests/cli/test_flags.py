"""Words of a command line, and what they ask for."""

import pytest

from exits_jax.cli import flags
from exits_jax.cli.overrides import override, split
from exits_jax.cli.words import UsageError
from exits_jax.configs import base, tiny


def _refused(command, *words):
    with pytest.raises(UsageError) as refused:
        flags.read(command, words)
    return str(refused.value)


def test_a_command_is_its_phase_and_run_has_none():
    assert flags.read("evaluate", ["--config=tiny"]).phase == "evaluate"
    assert flags.read("run", ["--config=tiny"]).phase is None
    assert flags.read("run", ["--config=tiny", "--phase=train"]).phase == "train"


def test_flags_set_fields_of_the_configuration():
    words = ["--config=tiny", "--workdir=my run", "--config.train.steps=7"]
    config = flags.read("run", words).config
    assert config.workdir == "my run" and config.train.steps == 7
    assert config.batch_size == tiny.get_config().batch_size


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--config.train.steps=7"], "train.steps", 7),
        (["--config.train.steps", "7"], "train.steps", 7),
        (["--config.train.steps=none"], "train.steps", None),
        (["--config.train.epochs=3"], "train.epochs", 3.0),
        (["--config.evaluate.grabcut=False"], "evaluate.grabcut", False),
        (["--noconfig.evaluate.grabcut"], "evaluate.grabcut", False),
        (["--config.evaluate.grabcut"], "evaluate.grabcut", True),
        (["--config.generate.splits=('val',)"], "generate.splits", ("val",)),
        (["--config.similarity.layers=(3, 4)"], "similarity.layers", (3, 4)),
        (["--config.imports.kind=cvat"], "imports.kind", "cvat"),
        (["--config.init.generator=a=b.x"], "init.generator", "a=b.x"),
        (["--config.data.train="], "data.train", ""),
    ],
)
def test_values_are_read_as_the_type_of_their_field(words, name, value):
    config = base.get_config()
    config.train.steps, config.data.train = 3, "before"
    fields, others = split([*words, "--workdir=x"])
    assert override(config, fields) == {name: value} and others == ["--workdir=x"]
    section, _, field = name.rpartition(".")
    assert config[section][field] == value


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--config.train.lrr=1", "no field 'train.lrr'. Did you mean train.lr"),
        ("--config.bach_size=4", "Did you mean batch_size"),
        ("--config.threshold=0.2", "generate.threshold"),
        ("--config.import.kid=a", "no field 'import.kid'. Did you mean imports.kind"),
        ("--config.train=4", "train is a section of the configuration, with"),
        (
            "--config.train.steps=five",
            "--config.train.steps=five: a whole number is expected (now None).",
        ),
        ("--config.batch_size=2.5", "--config.batch_size=2.5: a whole number"),
        ("--config.train.epochs=x", "--config.train.epochs=x: a number is expected"),
        ("--config.evaluate.grabcut=maybe", "True or False is expected"),
        ("--config.imports.keep_group_of=x", "--config.imports.keep_group_of=x: True"),
        ("--config.batch_size=none", "--config.batch_size=none: a whole number"),
    ],
)
def test_a_field_or_value_that_does_not_fit_is_refused(word, message):
    assert message in _refused("run", "--config=base", word)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--wokdir=x"], "There is no flag --wokdir. Did you mean --workdir?"),
        (
            ["--workdir=runs/my", "run"],
            'A value with a space is written in quotes: --workdir="runs/my run"',
        ),
        (
            ["--config.data.train=my", "file.json", "--workdir=x"],
            'A value with a space is written in quotes: --config.data.train="my file',
        ),
        (["--config.workdir", "runs/my", "run"], "Unexpected word 'run'. A command"),
        (["evaluate"], "A command comes first, before all flags: exits-jax evaluate"),
        (["--phase=trian"], "'trian' is not a phase. Did you mean train?"),
        (["--redo=genrate"], "'genrate' is not a phase. Did you mean generate?"),
        (["--num_processes=two"], "invalid int value: 'two'"),
        (["--workdir"], "Argument --workdir: expected one argument."),
    ],
)
def test_words_that_make_no_sense_are_refused(words, message):
    assert message in _refused("run", "--config=tiny", *words)


def test_the_workdir_remembers_its_configuration(tmp_path):
    config = tiny.get_config()
    config.seed, config.train.steps = 5, 4
    config.workdir = "somewhere/else"  # it was moved since
    (tmp_path / "config.json").write_text(config.to_json_best_effort())
    words = [f"--workdir={tmp_path}", "--config.generate.threshold=0.4"]
    found = flags.read("evaluate", words).config
    config.workdir, config.generate.threshold = str(tmp_path), 0.4
    assert found.to_json() == config.to_json()


def test_a_given_configuration_goes_before_the_remembered_one(tmp_path):
    (tmp_path / "config.json").write_text(tiny.get_config().to_json_best_effort())
    words = [f"--workdir={tmp_path}", "--config=voc"]
    assert flags.read("run", words).config.data.name == "voc"


def test_without_any_configuration_the_shipped_ones_are_listed(tmp_path):
    said = _refused("run")
    assert "Give --config=NAME, or --workdir=FOLDER of an earlier run." in said
    assert "Shipped configurations: ablations, coco" in said
    said = _refused("train", f"--workdir={tmp_path}")
    assert f"{tmp_path} holds no configuration of an earlier run" in said


@pytest.mark.parametrize("command", ["import", "validate", "export"])
def test_commands_beside_a_run_need_no_configuration(command):
    assert flags.read(command, ["--workdir=x"]).config.data.name == "custom"
