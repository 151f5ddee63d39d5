import json

from exits_jax.train.metric_log import MetricLog


def _log(folder, run, steps, *, first_step=0):
    log = MetricLog(folder, run, first_step=first_step, total=10)
    for step in steps:
        log.advance()
        log.write(step, {"loss/total": float(step)})
    log.close()


def _rows(folder):
    return [
        json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


def test_rows_name_their_run_and_step(tmp_path):
    _log(tmp_path, "warmup", [1, 2])
    assert _rows(tmp_path) == [
        {"run": "warmup", "step": 1, "loss/total": 1.0},
        {"run": "warmup", "step": 2, "loss/total": 2.0},
    ]


def test_a_resumed_run_replaces_what_it_does_again(tmp_path):
    _log(tmp_path, "warmup", [1, 2])
    _log(tmp_path, "train", [1, 2, 3])
    _log(tmp_path, "train", [3, 4], first_step=2)
    assert [(row["run"], row["step"]) for row in _rows(tmp_path)] == [
        ("warmup", 1),
        ("warmup", 2),
        ("train", 1),
        ("train", 2),
        ("train", 3),
        ("train", 4),
    ]


def test_a_line_that_a_crash_cut_short_is_dropped(tmp_path):
    _log(tmp_path, "train", [1, 2])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"run": "train", "st')
    _log(tmp_path, "train", [3], first_step=2)
    assert [row["step"] for row in _rows(tmp_path)] == [1, 2, 3]


def test_each_run_has_its_board(tmp_path):
    _log(tmp_path, "train", [1])
    assert list((tmp_path / "tensorboard" / "train").glob("events*"))
