import json
import os
import shutil
import signal
import sys
import threading
import time

import pytest

from configs import tiny
from exits_jax import exit_status, main
from exits_jax.phases import stage2
from exits_jax.run.workdir import ConfigError, Workdir

PROGRAM = f"""#!{sys.executable}
import json, signal, sys, time
from pathlib import Path
folder = Path({{folder!r}})
(folder / "called.json").write_text(json.dumps(sys.argv[1:]))
{{body}}
"""
HANDLE = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))"
SLEEP = """
(folder / "up").touch()
time.sleep(3600)
"""


@pytest.fixture
def workdir(tmp_path):
    """What a finished run leaves for stage 2."""
    made = Workdir(tmp_path / "run")
    (made / "phases").mkdir(parents=True)
    facts = {
        "sources": {"train": "data/train.json", "val": "data/val.json"},
        "images": {"train": "data/images", "val": "data/val images"},
    }
    for phase in ("prepare", "generate"):
        record = {"status": "finished", "config": {}, "facts": facts}
        (made / "phases" / f"{phase}.json").write_text(json.dumps(record))
    (made / "pseudo_masks.json").write_text("{}")
    return made


@pytest.fixture
def config(tmp_path, workdir):
    made = tiny.get_config()
    made.workdir = str(workdir.path)
    made.stage2.config = str(tmp_path / "solov2_r50.py")
    (tmp_path / "solov2_r50.py").touch()
    made.stage2.python = plant(tmp_path)
    return made


def plant(folder, body=""):
    """A stand-in for the Python of stage 2 that writes down how it was called."""
    path = folder / "python"
    path.write_text(PROGRAM.format(folder=str(folder), body=body))
    path.chmod(0o755)
    return str(path)


def called(folder):
    return json.loads((folder / "called.json").read_text())


def test_the_files_of_the_run_are_handed_over(config, workdir, tmp_path):
    stage2.run(config, workdir)
    run = str(workdir.path)
    assert called(tmp_path) == [
        "-m",
        "exits_jax.stage2",
        config.stage2.config,
        f"--train={run}/pseudo_masks.json",
        "--images=data/images",
        "--val=data/val.json",
        "--val-images=data/val images",
        f"--workdir={run}/stage2/solov2_r50-pseudo",
        "--supervision=pseudo",
        "--dataset=custom",
        "--seed=0",
    ]


def test_what_is_set_is_handed_over(config, workdir, tmp_path):
    config.stage2.update(
        supervision="masks",
        dataset="coco",
        init="r50.pth",
        iterations=40,
        single_class=True,
        options=("a.b=1", "c=[1,2]"),
        seed=3,
    )
    config.evaluate.separated_ids = "ids.json"
    stage2.run(config, workdir)
    flags = called(tmp_path)[3:]
    folder = f"{workdir.path}/stage2/solov2_r50-masks-single_class"
    assert flags[4:] == [
        f"--workdir={folder}",
        "--supervision=masks",
        "--masks=data/train.json",
        "--dataset=coco",
        "--init=r50.pth",
        "--iterations=40",
        "--seed=3",
        "--separated-ids=ids.json",
        "--set=a.b=1",
        "--set=c=[1,2]",
        "--single-class",
    ]


def test_without_a_validation_split_there_is_nothing_to_judge_by(config, workdir):
    path = workdir / "phases/prepare.json"
    record = json.loads(path.read_text())
    del record["facts"]["sources"]["val"]
    path.write_text(json.dumps(record))
    with pytest.raises(FileNotFoundError, match="set data.val"):
        stage2.run(config, workdir)


def test_unfinished_runs_are_refused(config, workdir):
    (workdir / "phases/generate.json").unlink()
    with pytest.raises(ConfigError, match="the finished phase generate"):
        stage2.run(config, workdir)


@pytest.mark.parametrize(
    "field, value, said",
    [
        ("config", "none.py", "no such mmdet config. Give a file, or a shipped one"),
        ("config", "", "a shipped one: condinst_r101_dcn_fpn, "),
        ("config", "solov2_r50_fpn_3", "Did you mean solov2_r50_fpn_3x?"),
        ("python", "none/python", "make stage2-env"),
        ("supervision", "mask", "known are pseudo, masks, boxes"),
    ],
)
def test_a_field_that_makes_no_sense_is_named(config, workdir, field, value, said):
    config.stage2[field] = value
    with pytest.raises(ConfigError, match=f"stage2.{field} = '{value}'.*{said}"):
        stage2.run(config, workdir)


@pytest.mark.parametrize("content, mode", [("x", 0o644), ("#!/none/python", 0o755)])
def test_a_file_that_is_no_program_is_named(config, tmp_path, content, mode):
    program = tmp_path / "no_python"
    program.write_text(content)
    program.chmod(mode)
    config.stage2.python = str(program)
    with pytest.raises(ConfigError, match="no_python' cannot be run: .*stage2-env"):
        stage2.run(config, Workdir(config.workdir))


def test_a_program_that_says_nothing_is_named_with_its_status(config, capfd):
    config.stage2.python = shutil.which("false")
    assert main.run(config, "stage2") == exit_status.FAILED
    assert "/false ended with 1" in capfd.readouterr().err


@pytest.mark.parametrize("status", [1, 3, 75, 130])
def test_its_exit_status_is_that_of_the_run(config, tmp_path, status):
    config.stage2.python = plant(tmp_path, f"sys.exit({status})")
    assert main.run(config, "stage2") == status


def test_a_process_that_was_killed_is_an_error(config, tmp_path, capfd):
    body = "import os; os.kill(os.getpid(), signal.SIGKILL)"
    config.stage2.python = plant(tmp_path, body)
    assert main.run(config, "stage2") == exit_status.FAILED
    assert "error: Stage 2 was ended by signal 9" in capfd.readouterr().err


@pytest.mark.parametrize("body", [SLEEP, HANDLE + SLEEP])
def test_a_stop_is_passed_on_whether_or_not_it_is_handled(config, tmp_path, body):
    config.stage2.python = plant(tmp_path, body)
    before = signal.getsignal(signal.SIGTERM)

    def stop():
        while not (tmp_path / "up").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    assert main.run(config, "stage2") == exit_status.TRY_AGAIN
    assert signal.getsignal(signal.SIGTERM) is before
