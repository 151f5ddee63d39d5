"""What the driver runs, and how it goes on; nothing is trained here."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from exits_jax.ablations import __main__ as driver
from exits_jax.ablations.run import Stopped, duration, run_logged
from exits_jax.ablations.steps import MARKER
from tests.ablations.stand_in import MODEL, StandIn, drive, value_of

TABLE_5 = ("box_only", "annotated_points", "all_points")


def _kinds(asked):
    """What was run, without the digests of shared folders."""
    return [
        each.split()[1] if each.split()[1] in ("prepare", "warmup") else each
        for each in asked
    ]


def test_each_row_is_labeled_and_learned_from_after_what_it_shares(tmp_path):
    run = StandIn()
    assert drive(tmp_path, run, "--table=table_5") == driver.OK
    rows = [f"{row} {step}" for row in TABLE_5 for step in ("labels", "stage2")]
    assert _kinds(run.asked) == ["prepare", "warmup", *rows]


def test_equal_rows_and_shared_phases_run_once(tmp_path):
    run = StandIn()
    tables = [f"--table={name}" for name in ("table_5", "table_6", "table_a2")]
    assert drive(tmp_path, run, *tables) == driver.OK
    # 3 + 2 + 5 rows, of which two are table_5/all_points: dropout, alpha_2.
    assert len(run.asked) == len(set(run.asked)) == 2 + 2 * 8
    assert sum(each.endswith("warmup") for each in run.asked) == 1


def test_a_finished_table_is_not_run_again(tmp_path):
    assert drive(tmp_path, StandIn(), "--table=table_5") == driver.OK
    again = StandIn()
    assert drive(tmp_path, again, "--table=table_5") == driver.OK
    assert again.asked == []


def test_another_table_takes_over_what_an_earlier_command_made(tmp_path):
    assert drive(tmp_path, StandIn(), "--table=table_5") == driver.OK
    run = StandIn()
    assert drive(tmp_path, run, "--table=table_6") == driver.OK
    assert run.asked == ["no_point_dropout labels", "no_point_dropout stage2"]


def test_other_flags_run_the_rows_again(tmp_path):
    assert drive(tmp_path, StandIn(), "--table=table_5") == driver.OK
    run = StandIn()
    flags = ("--table=table_5", "--config.generate.threshold=0.3")
    assert drive(tmp_path, run, *flags) == driver.OK
    assert _kinds(run.asked) == [
        f"{row} {step}" for row in TABLE_5 for step in ("labels", "stage2")
    ]


def test_other_flags_of_stage_2_make_no_labels_again(tmp_path):
    assert drive(tmp_path, StandIn(), "--table=table_5") == driver.OK
    run = StandIn()
    flags = ("--table=table_5", "--config.stage2.iterations=7")
    assert drive(tmp_path, run, *flags) == driver.OK
    assert run.asked == [f"{row} stage2" for row in TABLE_5]


def test_a_result_that_is_gone_is_made_again(tmp_path):
    assert drive(tmp_path, StandIn(), "--table=table_5") == driver.OK
    (tmp_path / "table_5" / "box_only" / "evaluation.json").unlink()
    run = StandIn()
    assert drive(tmp_path, run, "--table=table_5") == driver.OK
    assert run.asked == ["box_only labels"]


@pytest.mark.parametrize("status, end", [(75, 75), (130, 130), (-15, 75), (-2, 130)])
def test_a_step_that_was_stopped_stops_the_driver_and_goes_on_first(
    tmp_path, capsys, status, end
):
    stopped = StandIn({"annotated_points labels": status})
    assert drive(tmp_path, stopped, "--table=table_5") == end
    assert "Run the same command again" in capsys.readouterr().err
    assert stopped.asked[-1] == "annotated_points labels"
    run = StandIn()
    assert drive(tmp_path, run, "--table=table_5") == driver.OK
    assert run.asked[0] == "annotated_points labels" and len(run.asked) == 4


def test_an_interrupt_of_the_driver_leaves_the_rest_for_the_next_command(tmp_path):
    def interrupted(command, log):
        raise KeyboardInterrupt

    run = StandIn()
    flags = ("--table=table_5", "--skip_stage2")
    assert drive(tmp_path, interrupted, *flags) == driver.INTERRUPTED
    assert drive(tmp_path, run, *flags) == driver.OK
    assert len(run.asked) == 5


def test_a_row_that_fails_is_reported_and_the_others_go_on(tmp_path, capsys):
    run = StandIn({"annotated_points labels": 3})
    assert drive(tmp_path, run, "--table=table_5") == driver.FAILED
    said = capsys.readouterr()
    assert "error: no annotated_points labels today" in said.out
    assert "annotated_points.log" in said.out
    assert "1 of the rows failed: table_5/annotated_points" in said.err
    assert "annotated_points stage2" not in run.asked
    assert run.asked[-1] == "all_points stage2"


def test_a_row_that_failed_is_tried_again_by_the_next_command(tmp_path):
    failing = StandIn({"annotated_points labels": 3})
    assert drive(tmp_path, failing, "--table=table_5") == driver.FAILED
    run = StandIn()
    assert drive(tmp_path, run, "--table=table_5") == driver.OK
    assert run.asked == ["annotated_points labels", "annotated_points stage2"]


def test_a_shared_phase_that_fails_is_tried_once_for_all_rows(tmp_path, capsys):
    run = StandIn({"warmup": 1})
    assert drive(tmp_path, run, "--table=table_5") == driver.FAILED
    assert _kinds(run.asked) == ["prepare", "warmup"]
    assert "3 of the rows failed" in capsys.readouterr().err


def test_a_command_that_leaves_no_result_has_failed(tmp_path, capsys):
    assert drive(tmp_path, lambda *_: 0, "--table=table_5") == driver.FAILED
    assert "it ended well, but there is no" in capsys.readouterr().out


def test_a_row_starts_with_what_the_shared_phases_left(tmp_path):
    class Leaving(StandIn):
        def _leave(self, workdir, phase, command):
            super()._leave(workdir, phase, command)
            if phase == "warmup":
                for name in ("checkpoints/warmup/4/data", "log.txt", "scenes/1.png"):
                    path = workdir / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(name)

    drive(tmp_path, Leaving(), "--table=table_5")
    (shared,) = (tmp_path / "shared").glob("warmup-*[!g]")
    row = tmp_path / "table_5" / "box_only"
    phases = sorted(path.name for path in (row / "phases").iterdir())
    assert phases == ["prepare.json", "warmup.json"]
    made = row / "checkpoints" / "warmup" / "4" / "data"
    assert made.samefile(shared / "checkpoints" / "warmup" / "4" / "data")
    assert not (row / "phases" / "warmup.json").samefile(shared / "phases/warmup.json")
    assert (row / "scenes/1.png").samefile(shared / "scenes" / "1.png")
    assert not (row / "log.txt").exists()
    assert list(json.loads((row / MARKER).read_text())) == [
        "labels",
        f"stage2/{Path(MODEL).stem}-pseudo",
    ]


def test_what_a_killed_driver_was_copying_is_copied_anew(tmp_path):
    draft = tmp_path / "table_5" / ".box_only.draft"
    draft.mkdir(parents=True)
    (draft / "half").touch()
    assert drive(tmp_path, StandIn(), "--table=table_5") == driver.OK
    assert not draft.exists()
    assert not (tmp_path / "table_5" / "box_only" / "half").exists()


def test_flags_reach_every_command(tmp_path):
    run = StandIn()
    flags = ("--config.data.train=a b.json", "--val=v.json")
    drive(tmp_path, run, "--table=table_5", *flags)
    for command in run.commands:
        assert command[:3] == [sys.executable, "-m", "exits_jax.main"]
        assert value_of(command, "--config.data.train") == "a b.json"
        assert value_of(command, "--config.data.val") == "v.json"
        assert value_of(command, "--config.stage2.python") == sys.executable
        cache = value_of(command, "--config.compilation_cache")
        assert cache == str(tmp_path / "compilation_cache")


def test_one_class_has_a_folder_of_its_own_in_stage_2(tmp_path):
    flags = ("--table=table_5", "--config.stage2.single_class=True")
    assert drive(tmp_path, StandIn(), *flags) == driver.OK


def test_the_supplements_tables_have_a_schedule_of_their_own(tmp_path):
    other = tmp_path / "solo_1x.py"
    other.touch()
    run = StandIn()
    tables = ("--table=table_5", "--table=table_a3")
    assert drive(tmp_path, run, *tables, f"--stage2_config_1x={other}") == driver.OK
    models = {
        Path(value_of(command, "--workdir")).name: value_of(
            command, "--config.stage2.config"
        )
        for command in run.commands
        if value_of(command, "--phase") == "stage2"
    }
    assert models["all_points"] == MODEL and models["no_warmup"] == str(other)


def test_a_dry_run_prints_the_commands_and_leaves_nothing(tmp_path, capsys):
    run, out = StandIn(), tmp_path / "out"
    tables = ("--table=table_5", "--table=table_6")
    assert drive(out, run, *tables, "--dry_run") == driver.OK
    lines = capsys.readouterr().out.splitlines()
    commands = [line for line in lines if not line.startswith("#")]
    assert len(commands) == 2 + 2 * 4  # shared, then labels and stage 2 of four rows
    assert "# table_6/dropout, the same run as table_5/all_points" in lines
    assert not run.asked and not out.exists()


def test_two_drivers_do_not_work_in_one_folder(tmp_path, capsys):
    second = []

    def run(command, log):
        second.append(drive(tmp_path, StandIn(), "--table=table_5"))
        return 75

    assert drive(tmp_path, run, "--table=table_5") == 75
    assert second == [driver.USAGE]
    assert "Another driver is at work" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--workdir=x"], "each row has a workdir of its own"),
        (["--tables=table_5"], "--tables=table_5: unknown"),
        (["--config.seed", "3"], "3: unknown"),
        (["--stage2_config=none.py"], "'none.py': there is no such mmdet config"),
        (["--stage2_config="], "--stage2_config=NAME is missing"),
        (["--stage2_python=none"], "There is no none to run stage 2"),
        (["--val="], "--val=FILE is missing"),
    ],
)
def test_flags_that_make_no_sense_are_refused(tmp_path, capsys, flags, message):
    run = StandIn()
    assert drive(tmp_path, run, "--table=table_5", *flags) == driver.USAGE
    assert message in capsys.readouterr().err and not run.asked


def test_a_log_holds_the_command_and_what_it_said(tmp_path):
    log = tmp_path / "row" / "it.log"
    command = [sys.executable, "-c", "import sys; print('said'); sys.exit(3)"]
    assert run_logged(command, log) == 3
    lines = log.read_text().splitlines()
    assert lines[0].startswith(f"$ {sys.executable} -c ") and lines[1] == "said"


def test_a_driver_that_is_told_to_end_ends_its_command_first(tmp_path):
    """By SIGTERM, as a cluster does; the command may take a while to save its state."""
    code = (
        "import pathlib, signal, sys, time\n"
        "def end(*_): pathlib.Path(sys.argv[1]).touch(); sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "pathlib.Path(sys.argv[2]).touch()\n"
        "time.sleep(3600)\n"
    )
    ended, ready = tmp_path / "ended", tmp_path / "ready"

    def tell():
        while not ready.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    def run(_, log):
        return run_logged([sys.executable, "-c", code, str(ended), str(ready)], log)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=tell, daemon=True).start()
    assert drive(tmp_path / "out", run, "--table=table_5") == driver.TRY_AGAIN
    assert ended.exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_stopped_carries_the_status_of_the_driver():
    assert Stopped(75).status == 75


@pytest.mark.parametrize(
    "seconds, said",
    [
        (4.4, "4 s"),
        (59.6, "1 min 00 s"),
        (724.0, "12 min 04 s"),
        (7260.0, "2 h 01 min"),
    ],
)
def test_a_time_is_said_as_people_say_it(seconds, said):
    assert duration(seconds) == said
