"""One bit of what an earlier phase wrote has flipped: who reads it names the file."""

import shutil

import pytest

from exits_jax import exit_status, main
from tests.faults.damage import back_to
from tests.support import toy


def _flip(path, place=None):
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if place is None else place] ^= 4
    path.write_bytes(data)


READERS = [
    ("annotations/train_columns/boxes.npy", "warmup", "redo=prepare"),
    ("annotations/train_columns/points.npy", "train", "redo=prepare"),
    ("annotations/train_skipped.json", "generate", "redo=prepare"),
    ("phases/prepare.json", "generate", "redo=prepare"),
    ("pseudo_masks.json", "evaluate", "redo=generate"),
    ("pseudo_masks.json", "export", "redo=generate"),
    ("manifest.json", "evaluate", "redo=generate"),
]


@pytest.fixture
def run(whole_run, dataset, tmp_path):
    def act(phase, spoil):
        workdir = tmp_path / "run"
        if phase in main.PHASES:
            back_to(whole_run, workdir, phase)
        else:
            shutil.copytree(whole_run, workdir)
        spoil(workdir)
        config = toy.config_for(dataset, workdir, export__kind="yolo_seg")
        return main.run(config, phase)

    return act


@pytest.mark.parametrize(("name", "phase", "advice"), READERS)
def test_a_flipped_bit_is_named_by_the_phase_that_reads_it(
    run, name, phase, advice, capsys
):
    place = {"annotations/train_skipped.json": 1, "manifest.json": 60}.get(name)
    assert run(phase, lambda at: _flip(at / name, place)) == exit_status.BAD_INPUT
    said = capsys.readouterr().err.rpartition("error: ")[2]
    assert name in said and advice in said


@pytest.mark.parametrize("name", ["annotations/train_columns/ids.npy", "manifest.json"])
def test_a_file_that_is_missing_is_named(run, name, capsys):
    assert run("evaluate", lambda at: (at / name).unlink()) == exit_status.BAD_INPUT
    assert f"{name} is missing" in capsys.readouterr().err


def test_a_damaged_record_is_healed_by_doing_its_phase_again(
    whole_run, dataset, tmp_path
):
    workdir = tmp_path / "run"
    shutil.copytree(whole_run, workdir)
    (workdir / "phases" / "evaluate.json").write_text("")
    config = toy.config_for(dataset, workdir)
    assert main.run(config, "evaluate") == exit_status.BAD_INPUT
    assert main.run(config, "evaluate", redo="evaluate") == exit_status.OK
    same = "evaluation.json"
    assert (workdir / same).read_bytes() == (whole_run / same).read_bytes()


def test_lines_of_metrics_that_are_none_are_dropped(tmp_path):
    from exits_jax.train.metric_log import MetricLog

    rows = ['{"run": "train", "step": 1}', "[1]", "null", '{"run": 3}', "\0\0", "{"]
    (tmp_path / "metrics.jsonl").write_text("\n".join(rows))
    MetricLog(tmp_path, "train", first_step=1, total=2).close()
    assert [row["step"] for row in toy.rows(tmp_path, "train")] == [1]
