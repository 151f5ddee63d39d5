"""The command `exits-jax`: help, versions, and what is refused before JAX is there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import exits_jax
from exits_jax import exit_status
from exits_jax.__main__ import console
from exits_jax.cli.commands import COMMANDS, PHASES, TOOLS
from exits_jax.cli.fields import leaves, sentences
from exits_jax.configs import tiny
from tests.support import toy

WITH_FIELDS = [name for name, about in COMMANDS.items() if not about.module]


def _printed(capsys, *words, status=exit_status.OK):
    assert console(words) == status
    captured = capsys.readouterr()
    return captured.out if status == exit_status.OK else captured.err


def test_the_overview_lists_every_command(capsys):
    said = _printed(capsys, "--help")
    assert all(f"  {name} " in said for name in COMMANDS)


def test_without_a_word_the_overview_is_printed(capsys):
    assert console([]) == exit_status.USAGE
    assert "usage: exits-jax COMMAND" in capsys.readouterr().out


def test_the_version_is_the_packages(capsys):
    assert _printed(capsys, "--version") == f"exits-jax {exits_jax.__version__}\n"


@pytest.mark.parametrize("command", WITH_FIELDS)
def test_help_lists_the_fields_of_a_command_with_their_sentences(capsys, command):
    said = " ".join(_printed(capsys, command, "--help").split())
    own = COMMANDS[command].own
    for name, _ in leaves(tiny.get_config()):
        if name in own or name.partition(".")[0] in own:
            assert f"{name} = " in said and sentences()[name] in said


def test_help_shows_the_values_of_the_configuration_that_is_given(capsys, tmp_path):
    assert "crop.size = 512" in _printed(capsys, "run", "--help")
    assert "crop.size = 224" in _printed(capsys, "run", "--config=custom:cpu", "--help")
    config = tiny.get_config()
    config.crop.size = 40
    (tmp_path / "config.json").write_text(config.to_json_best_effort())
    said = _printed(capsys, "run", f"--workdir={tmp_path}", "-h")
    assert "crop.size = 40" in said


@pytest.mark.parametrize("command", ["convert", "ablations", "results"])
def test_other_commands_have_a_help_of_their_own(capsys, command):
    with pytest.raises(SystemExit) as end:
        console([command, "--help"])
    assert end.value.code == 0
    assert f"usage: exits-jax {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evalute"], "no command 'evalute'. Did you mean evaluate"),
        (["nothing"], "Known: run, prepare, pretrain"),
        (["train", "--config=custm"], "Did you mean custom?"),
    ],
)
def test_mistakes_are_one_message(capsys, words, message):
    said = _printed(capsys, *words, status=exit_status.USAGE)
    assert said.startswith("error: ") and message in said and said.count("\n") == 1


def test_phases_and_tools_are_commands():
    assert set(PHASES) | set(TOOLS) <= COMMANDS.keys()


def test_help_and_mistakes_load_neither_jax_nor_torch():
    code = (
        "import sys; from exits_jax.__main__ import console; "
        "console(['--help']); console(['train', '--help']); console(['trian']); "
        "print([m for m in ('jax', 'torch', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=toy.ROOT,
        env=os.environ | {"PYTHONPATH": str(toy.ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("[]\n")


def test_a_reader_that_has_seen_enough_of_the_help_is_no_error():
    command = f"{sys.executable} -m exits_jax run --help | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=toy.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and not done.stderr


def test_the_links_of_the_clone_lead_to_its_top_level():
    for name in ("configs", "convert_weights"):
        link = Path(exits_jax.__file__).parent / name
        assert link.resolve() == Path(toy.ROOT, name).resolve()
