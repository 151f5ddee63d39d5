"""The command line: what it says and the status it ends with."""

import json

import pytest
from PIL import Image

from configs import tiny
from exits_jax import main
from exits_jax.train.loop import Preempted
from tests import toy

# ml_collections reads configuration files in a way that Python 3.12 drops.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


def _config(workdir):
    config = tiny.get_config()
    config.workdir = str(workdir)
    return config


def _refused_flags(capsys, *flags):
    with pytest.raises(SystemExit) as end:
        main._parse(["main", f"--config={toy.ROOT}/configs/tiny.py", *flags])
    assert end.value.code == main.USAGE
    return capsys.readouterr().err


def test_an_unknown_ablation_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as end:
        main._parse(["main", f"--config={toy.ROOT}/configs/ablations.py:table_9"])
    assert end.value.code == main.USAGE
    assert capsys.readouterr().err.startswith("error: Unknown ablation 'table_9'")


@pytest.mark.parametrize(
    ("flag", "hint"),
    [
        ("--config.train.lrr=1", "train.lr"),
        ("--config.bach_size=4", "batch_size"),
        ("--config.threshold=0.2", "generate.threshold"),
    ],
)
def test_a_typo_is_refused_with_the_nearest_name(capsys, flag, hint):
    said = _refused_flags(capsys, flag)
    assert "has no field" in said and hint in said


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("configs/nothing.py", "configs/nothing.py"),
        ("configs/ablations.py:alpha_9", "table_a2/alpha_1"),
    ],
)
def test_a_configuration_that_does_not_exist_is_refused(capsys, path, message):
    with pytest.raises(SystemExit) as end:
        main._parse(["main", f"--config={toy.ROOT}/{path}"])
    said = capsys.readouterr().err
    assert end.value.code == main.USAGE and message in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.batch_size=many"], "config.batch_size=many"),
        (
            ["--phase=trian"],
            "prepare|pretrain|warmup|train|generate|evaluate|import|validate|pack|export",
        ),
        (["--config.loss.method=exit"], "known are exits, mil_crf"),
        (
            ["--config.batch_size=6"],
            "batch_size = 6 is not a multiple of the 4 devices",
        ),
        (["--phase=train"], "Run --phase=prepare first"),
        (["more"], "Unexpected arguments: more"),
        (
            ["--distributed", "--num_processes=2"],
            "--coordinator_address, --num_processes and --process_id are one set",
        ),
        (["--config.mesh.fsdp=3"], "mesh.data = -1 times mesh.fsdp = 3 must be"),
    ],
    ids=["type", "phase", "choice", "devices", "order", "argument", "set", "mesh"],
)
def test_a_process_ends_with_status_2_and_one_message(tmp_path, flags, message):
    workdir = tmp_path / "run"
    config = f"--config={toy.ROOT}/configs/tiny.py"
    process = toy.start(config, f"--workdir={workdir}", *flags, devices=4)
    status, said = toy.finish(process)
    assert status == main.USAGE
    assert message in said and said.startswith("error: ") and "Traceback" not in said
    assert not toy.leftovers(workdir)


def test_a_process_needs_a_configuration():
    status, said = toy.finish(toy.start())
    assert status == main.USAGE and "--config=configs/....py is required" in said


@pytest.mark.parametrize("phase", list(main.PHASES)[1:])
def test_a_phase_before_its_time_names_the_first_that_is_missing(
    tmp_path, capsys, phase
):
    assert main.run(_config(tmp_path), phase) == main.USAGE
    assert "Run --phase=prepare first" in capsys.readouterr().err


def test_another_configuration_needs_another_workdir(tmp_path, capsys):
    toy.write_dataset(tmp_path)
    config = toy.config_for(tmp_path, tmp_path / "run")
    assert main.run(config, "prepare") == main.OK
    config.data.points = "extremenet"
    assert main.run(config, "prepare") == main.USAGE
    said = capsys.readouterr().err
    assert "data.points: was 'clean', is 'extremenet'" in said
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())
    assert recorded["data"]["points"] == "clean"


def test_a_process_imports_by_flags_and_says_what_to_do_next(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (80, 60)).save(tmp_path / "images" / "a.png")
    table = tmp_path / "clicks.csv"
    table.write_text(
        "file,category,x1,y1,x2,y2,x3,y3,x4,y4\n"
        "a.png,cat,30,5,70,20,40,50,10,30\n"
        "b.png,cat,30,5,70,20,40,50,10,30\n"
    )
    status, said = toy.finish(
        toy.start(
            f"--config={toy.ROOT}/configs/custom.py",
            f"--workdir={tmp_path}/run",
            "--phase=import",
            "--config.import.kind=csv",
            f"--config.import.source={table}",
            f"--config.data.images={tmp_path}/images",
        )
    )
    assert status == main.OK and "--phase=prepare" in said, said
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
    assert main.run(config) == main.BAD_INPUT
    said = capsys.readouterr().err
    assert "none.safetensors" in said and "convert_weights" in said
    assert not (tmp_path / "run" / "annotations").exists()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (FloatingPointError("train: loss/total is nan at step 7."), main.FAILED),
        (Preempted("train was asked to stop"), main.TRY_AGAIN),
        (KeyboardInterrupt(), main.INTERRUPTED),
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
