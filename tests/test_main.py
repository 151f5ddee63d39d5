"""The command line: what it says and the status it ends with."""

import json
import os
import signal
import subprocess
import sys

import pytest
from PIL import Image

from configs import tiny
from exits_jax import __main__ as command
from exits_jax import exit_status, main
from exits_jax.cli.commands import PHASES, TOOLS
from exits_jax.train.stopping import Preempted
from tests.support import toy
from tests.support.waiting import wait_until


def _config(workdir):
    config = tiny.get_config()
    config.workdir = str(workdir)
    return config


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config.batch_size=many"], "--config.batch_size=many: a whole number"),
        (["--phase=trian"], "'trian' is not a phase. Did you mean train?"),
        (["--config.loss.method=exit"], "known are exits, mil_crf"),
        (
            ["--config.batch_size=6"],
            "batch_size = 6 is not a multiple of the 4 devices",
        ),
        (["--phase=train"], "Run `exits-jax prepare` first"),
        (["more"], "Unexpected word 'more'"),
        (
            ["--distributed", "--num_processes=2"],
            "--coordinator_address, --num_processes and --process_id are one set",
        ),
        (["--config.mesh.fsdp=3"], "mesh.data = -1 times mesh.fsdp = 3 must be"),
        (["--phase=generate", "--redo=train"], "Use `exits-jax run --redo=train`"),
    ],
    ids="type phase choice devices order word set mesh redo".split(),
)
def test_what_makes_no_sense_ends_with_status_2_and_one_message(
    tmp_path, capsys, words, message
):
    workdir = tmp_path / "run"
    words = ["--config=tiny", f"--workdir={workdir}", *words]
    assert command.console(words) == exit_status.USAGE
    said = capsys.readouterr().err
    assert message in said and said.startswith("error: ")
    assert not toy.leftovers(workdir)


def test_a_process_ends_with_the_status_of_the_command(tmp_path):
    """As a module of the clone, with a path, which is how scripts call it."""
    config = f"--config={toy.ROOT}/configs/tiny.py"
    workdir = f"--workdir={tmp_path}/run"
    status, said = toy.finish(toy.start(config, workdir, "--phase=train"))
    assert status == exit_status.USAGE
    assert said.startswith("error: ") and "Traceback" not in said


@pytest.mark.parametrize("module", ["exits_jax", "exits_jax.main"])
def test_ctrl_c_is_heard_while_jax_is_imported(tmp_path, module):
    """JAX takes seconds; here it takes until the signal comes."""
    slow, begun = tmp_path / "jax", tmp_path / "begun"
    slow.mkdir()
    (slow / "__init__.py").write_text(
        f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", module, "--config=tiny", f"--workdir={tmp_path}/run"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{toy.ROOT}"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_until(begun.exists, [process])
    process.send_signal(signal.SIGINT)
    status, said = toy.finish(process)
    assert status == exit_status.INTERRUPTED, said
    assert said == "error: Interrupted.\n"


def test_a_positional_phase_and_the_flag_are_the_same(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        main, "main", lambda request: asked.append(request) or exit_status.OK
    )
    words = ["--config=tiny", f"--workdir={tmp_path}"]
    assert command.console(["evaluate", *words]) == exit_status.OK
    assert command.console(["run", *words, "--phase=evaluate"]) == exit_status.OK
    assert command.console([*words, "--phase=evaluate"]) == exit_status.OK
    assert len({(r.phase, r.config.to_json(), r.redo) for r in asked}) == 1


def test_commands_of_phases_are_the_phases():
    assert tuple(main.PHASES) == PHASES and tuple(main.TOOLS) == TOOLS


@pytest.mark.parametrize("phase", list(main.PHASES)[1:])
def test_a_phase_before_its_time_names_the_first_that_is_missing(
    tmp_path, capsys, phase
):
    assert main.run(_config(tmp_path), phase) == exit_status.USAGE
    assert "Run `exits-jax prepare` first" in capsys.readouterr().err


def test_another_configuration_needs_another_workdir(tmp_path, capsys):
    toy.write_dataset(tmp_path)
    config = toy.config_for(tmp_path, tmp_path / "run")
    assert main.run(config, "prepare") == exit_status.OK
    config.data.points = "extremenet"
    assert main.run(config, "prepare") == exit_status.USAGE
    said = capsys.readouterr().err
    assert "data.points: was 'clean', is 'extremenet'" in said
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())
    assert recorded["data"]["points"] == "clean"


def test_clicks_are_imported_by_flags_and_what_to_do_next_is_said(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (80, 60)).save(tmp_path / "images" / "a.png")
    table = tmp_path / "clicks.csv"
    table.write_text(
        "file,category,x1,y1,x2,y2,x3,y3,x4,y4\n"
        "a.png,cat,30,5,70,20,40,50,10,30\n"
        "b.png,cat,30,5,70,20,40,50,10,30\n"
    )
    words = [
        "import",
        f"--workdir={tmp_path}/run",
        "--config.imports.kind=csv",
        f"--config.imports.source={table}",
        f"--config.data.images={tmp_path}/images",
    ]
    assert command.console(words) == exit_status.OK
    assert "exits-jax prepare" in capsys.readouterr().err
    (record,) = json.loads((tmp_path / "run" / "imported.json").read_text())[
        "annotations"
    ]
    assert record["extreme_points"] == [[30, 5], [10, 30], [40, 50], [70, 20]]
    report = json.loads((tmp_path / "run" / "imported_report.json").read_text())
    assert [row["code"] for row in report["rejected"]] == ["E111"]


def test_missing_weights_are_named_before_anything_is_prepared(tmp_path, capsys):
    toy.write_dataset(tmp_path)
    config = toy.config_for(tmp_path, tmp_path / "run")
    config.init.encoder = str(tmp_path / "none.safetensors")
    assert main.run(config) == exit_status.BAD_INPUT
    said = capsys.readouterr().err
    assert "none.safetensors" in said and "convert_weights" in said
    assert not (tmp_path / "run" / "annotations").exists()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (FloatingPointError("train: loss/total is nan at step 7."), exit_status.FAILED),
        (Preempted("train was asked to stop"), exit_status.TRY_AGAIN),
        (KeyboardInterrupt(), exit_status.INTERRUPTED),
    ],
)
def test_an_expected_end_has_its_status(tmp_path, monkeypatch, capsys, error, status):
    def end(config, workdir):
        raise error

    monkeypatch.setitem(main.PHASES, "prepare", end)
    assert main.run(_config(tmp_path), "prepare") == status
    assert str(error) in capsys.readouterr().err


def test_a_fault_of_ours_keeps_its_traceback(tmp_path, monkeypatch):
    def end(config, workdir):
        raise KeyError("ours")

    monkeypatch.setitem(main.PHASES, "prepare", end)
    with pytest.raises(KeyError, match="ours"):
        main.run(_config(tmp_path), "prepare")
