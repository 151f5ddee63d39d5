import errno
import json
import os
import struct
import subprocess
import sys

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2

from exits_jax.train.metric_log import MetricLog
from tests.support import toy


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


def _loaded(code):
    """Which of the packages that take seconds a process has loaded after some code."""
    heavy = "print([name for name in ('tensorboardX', 'torch') if name in sys.modules])"
    said = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{heavy}"],
        cwd=toy.ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return said.splitlines()[-1]


def test_the_command_line_loads_no_event_writer_and_no_pytorch():
    assert _loaded("import exits_jax.main") == "[]"


def test_a_run_without_an_event_loads_no_event_writer(tmp_path):
    code = (
        "from exits_jax.train.metric_log import MetricLog\n"
        f"log = MetricLog({str(tmp_path)!r}, 'train', first_step=0, total=10)\n"
        "log.advance()\nlog.close()"
    )
    assert _loaded(code) == "[]"


def _events(folder):
    """Values by step and name, read back from TensorBoard's file."""
    found = {}
    for path in (folder / "tensorboard" / "train").glob("events*"):
        data = path.read_bytes()
        at = 0
        while at < len(data):  # length, its checksum, the event, its checksum
            (length,) = struct.unpack("<Q", data[at : at + 8])
            event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
            for value in event.summary.value:
                found[event.step, value.tag] = value.simple_value
            at += 16 + length
    return found


def test_tensorboard_has_every_value(tmp_path):
    _log(tmp_path, "train", [1, 2])
    assert _events(tmp_path) == {(1, "loss/total"): 1.0, (2, "loss/total"): 2.0}


def test_a_full_disk_is_said_once_and_ends_nothing(tmp_path, caplog, monkeypatch):
    full = lambda log, _: setattr(log, "_file", open("/dev/full", "a"))
    monkeypatch.setattr(MetricLog, "_open_file", full)
    _log(tmp_path, "train", range(20))
    said = [record.message for record in caplog.records]
    assert said == [
        "Metrics of train cannot be written to metrics.jsonl (No space left on "
        "device). The run goes on."
    ]
    assert len(_events(tmp_path)) == 20


def test_tensorboard_without_room_is_said_once_and_ends_nothing(
    tmp_path, caplog, monkeypatch
):
    log = MetricLog(tmp_path, "train", first_step=0, total=10)
    log.write(0, {"loss/total": 1.0})

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(EventsWriter, "write_event", refuse)
    for step in range(1, 20):
        log.write(step, {"loss/total": 1.0})
    log.close()
    said = [record.message for record in caplog.records]
    assert len(said) == 1 and "to TensorBoard (No space left on device)" in said[0]
    assert len(_rows(tmp_path)) == 20


def test_files_that_cannot_be_opened_end_nothing(tmp_path, caplog):
    (tmp_path / "metrics.jsonl").mkdir()
    (tmp_path / "tensorboard").write_text("")
    _log(tmp_path, "train", [1, 2])
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


def test_a_window_without_any_good_step_has_no_loss(tmp_path):
    log = MetricLog(tmp_path, "train", first_step=0, total=10)
    log.write(2, {"optimizer/skipped_steps": 2.0})
    log.close()
    assert _rows(tmp_path) == [
        {"run": "train", "step": 2, "optimizer/skipped_steps": 2.0}
    ]
