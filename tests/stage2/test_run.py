"""The command line, from files to figures, on drawn shapes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import drawn
import pytest
import torch

from exits_jax.stage2.__main__ import main

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/mmdet/condinst_vit_tiny.py"
# The real classes, at a size that takes a second per iteration.
SMALL = [
    "--init=random",
    "--set=model.backbone.depth=1",
    "--set=model.backbone.frozen_blocks=0",
    "--set=model.bbox_head.stacked_convs=1",
    "--set=train_dataloader.num_workers=0",
    "--set=train_dataloader.persistent_workers=False",
    "--set=val_dataloader.num_workers=0",
    "--set=val_dataloader.persistent_workers=False",
    "--set=test_dataloader.num_workers=0",
    "--set=test_dataloader.persistent_workers=False",
    "--set=train_dataloader.batch_size=2",
    "--set=default_hooks.checkpoint.interval=2",
]


@pytest.fixture
def data(tmp_path):
    drawn.write(tmp_path)
    return tmp_path


def flags(data, *further, run="run"):
    return [
        str(CONFIG),
        f"--train={data / 'train.json'}",
        f"--images={data / 'images'}",
        f"--val={data / 'val.json'}",
        f"--workdir={data / run}",
        *SMALL,
        *further,
    ]


def figures(data, run="run"):
    return json.loads((data / run / "figures.json").read_text())


def newest(folder):
    path = Path((folder / "last_checkpoint").read_text())
    return torch.load(path, weights_only=False, map_location="cpu")


def test_a_detector_is_trained_and_judged(data, capfd):
    assert main(flags(data, "--iterations=2", "--dataset=drawn")) == 0
    found = figures(data)
    told = ("config", "supervision", "dataset", "iterations", "metric")
    assert [found[name] for name in told] == [
        "condinst_vit_tiny",
        "pseudo",
        "drawn",
        2,
        "coco",
    ]
    assert 0 <= found["AP"] <= 100
    assert set(found["per_class"]) == set(drawn.CLASSES)
    said = capfd.readouterr().err
    assert "12 of 12 objects on 6 of 6 images are learnt from" in said
    assert main(flags(data, "--iterations=2", "--dataset=drawn")) == 0
    assert "done before" in capfd.readouterr().err


def test_other_settings_in_the_same_workdir_are_refused(data, capfd):
    assert main(flags(data, "--iterations=1")) == 0
    assert main(flags(data, "--iterations=1", "--seed=5")) == 3
    said = capfd.readouterr().err
    assert "seed: was 0, is 5" in said and "Traceback" not in said


def test_true_masks_and_boxes_are_trained_on_with_the_same_config(data):
    masks = drawn.save(data / "true.json", json.loads((data / "val.json").read_text()))
    given = ["--iterations=1", "--supervision=masks", f"--masks={masks}"]
    assert main(flags(data, *given, run="masks")) == 0
    assert figures(data, "masks")["train"] == str(masks)
    given = ["--iterations=1", "--supervision=boxes"]
    assert main(flags(data, *given, run="boxes")) == 0
    assert figures(data, "boxes")["supervision"] == "boxes"
    filled = json.loads((data / "boxes/boxes.json").read_text())["annotations"]
    assert all(r["area"] == r["bbox"][2] * r["bbox"][3] for r in filled)


def test_all_classes_can_be_one(data):
    assert main(flags(data, "--iterations=1", "--single-class")) == 0
    assert set(figures(data)["per_class"]) == {"object"}


def test_the_newest_checkpoint_can_be_judged_again(data):
    assert main(flags(data, "--iterations=2")) == 0
    before = figures(data)
    (data / "run/figures.json").unlink()
    assert main(flags(data, "--iterations=2", "--test-only")) == 0
    assert figures(data) == before


def start(data, *further):
    command = [sys.executable, "-m", "exits_jax.stage2", *flags(data, *further)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    log = (data / "log").open("w")
    return subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=ROOT)


def wait_for(path, process, seconds=120):
    until = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, (path.parents[1] / "log").read_text()
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("how, status", [(signal.SIGTERM, 75), (signal.SIGKILL, -9)])
def test_a_stopped_training_goes_on_where_it_was(data, how, status):
    process = start(data, "--iterations=8")
    wait_for(data / "run/iter_2.pth", process)
    time.sleep(0.2)
    process.send_signal(how)
    assert process.wait(60) == status, (data / "log").read_text()
    reached = newest(data / "run")["meta"]["iter"]
    assert 2 <= reached < 8
    if how == signal.SIGTERM:
        assert "Run the same command again to go on." in (data / "log").read_text()
    again = start(data, "--iterations=8")
    assert again.wait(300) == 0, (data / "log").read_text()
    said = (data / "log").read_text()
    assert f"iter_{reached}.pth" in said
    assert newest(data / "run")["meta"]["iter"] == 8
    assert figures(data)["iterations"] == 8


def changed(data, split, change):
    path = data / f"{split}.json"
    content = json.loads(path.read_text())
    change(content)
    drawn.save(path, content)


WRONG = {
    "have different classes": lambda d: changed(
        d, "val", lambda c: c["categories"][0].update(name="ring")
    ),
    "has no categories": lambda d: changed(
        d, "train", lambda c: c.update(categories=[])
    ),
    "holds no object": lambda d: changed(
        d, "train", lambda c: c.update(annotations=[])
    ),
    "are not in": lambda d: (d / "images/003.jpg").rename(d / "images/x.jpg"),
    "cannot be read: No such file": lambda d: (d / "val.json").unlink(),
}


@pytest.mark.parametrize("said", WRONG)
def test_wrong_input_ends_the_run_before_any_training(data, said, capfd):
    WRONG[said](data)
    assert main(flags(data, "--iterations=1")) == 3
    found = capfd.readouterr().err
    assert said in found and "Traceback" not in found
    assert not list((data / "run").glob("*.pth"))


@pytest.mark.parametrize(
    "given, said",
    [
        (["--supervision=masks"], "belong together"),
        (["--iterations=1", "--epochs=1"], "not both"),
        (["--set=model"], "not of the form KEY=VALUE"),
        (["--init=none.pth"], "none.pth"),
    ],
)
def test_wrong_flags_are_refused(data, given, said, capfd):
    assert main(flags(data, *given)) == 3
    assert said in capfd.readouterr().err


def test_a_config_that_is_none_is_refused(data, capfd):
    assert main(["none.py", *flags(data)[1:]]) == 3
    assert "none.py cannot be read" in capfd.readouterr().err


def test_check_only_trains_nothing(data, capfd):
    assert main(flags(data, "--check-only")) == 0
    assert "12 of 12 objects" in capfd.readouterr().err
    assert not (data / "run/figures.json").exists()
