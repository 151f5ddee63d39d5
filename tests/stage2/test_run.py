"""The command line, from files to figures, on drawn shapes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import drawn
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from PIL import Image

from exits_jax.stage2.__main__ import main
from tests.support.waiting import CEILING_S, wait_until

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
    changed(data, "train", lambda c: c.update(info={"exits_jax": ["no facts"]}))
    assert main(flags(data, "--iterations=1", "--single-class")) == 0
    assert set(figures(data)["per_class"]) == {"object"}


def test_the_newest_checkpoint_can_be_judged_again(data):
    assert main(flags(data, "--iterations=2")) == 0
    before = figures(data)
    (data / "run/figures.json").unlink()
    assert main(flags(data, "--iterations=2", "--test-only")) == 0
    assert figures(data) == before


def test_a_workdir_without_a_checkpoint_cannot_be_judged(data, capfd):
    assert main(flags(data, "--test-only")) == 3
    assert "holds no checkpoint to evaluate" in capfd.readouterr().err
    assert not (data / "run/figures.json").exists()


def test_after_a_judgement_on_the_way_the_training_goes_on(data):
    given = ["--iterations=4"]
    assert main(flags(data, *given)) == 0
    (data / "run/figures.json").unlink()
    (data / "run/last_checkpoint").write_text(str(data / "run/iter_2.pth"))
    assert main(flags(data, *given, "--test-only")) == 0
    on_the_way = json.loads((data / "run/figures_so_far.json").read_text())
    assert on_the_way["iterations"] == 2
    assert main(flags(data, *given)) == 0
    assert figures(data)["iterations"] == 4


def test_weights_that_a_config_loads_are_no_checkpoint_to_go_on_from(data, capfd):
    assert main(flags(data, "--iterations=2", run="first")) == 0
    given = [f"--set=load_from={data / 'first/iter_2.pth'}", "--iterations=3"]
    assert main(flags(data, *given, run="second")) == 0
    assert "Iter(train) [1/3]" in capfd.readouterr().out


def test_one_class_names_the_validation_file_that_was_given(data):
    assert main(flags(data, "--iterations=1", "--single-class")) == 0
    assert figures(data)["val"] == str(data / "val.json")


def start(data, *further, before=()):
    program = [*before, "-m", "exits_jax.stage2"]
    command = [sys.executable, *program, *flags(data, *further)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    log = (data / "log").open("w")
    return subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=ROOT)


def said_by(data):
    return (data / "log").read_text()


def wait_for(happened, process, data):
    wait_until(lambda: happened() or process.poll() is not None)
    assert process.poll() is None, said_by(data)


@pytest.mark.slow
@pytest.mark.parametrize("how, status", [(signal.SIGTERM, 75), (signal.SIGKILL, -9)])
def test_a_stopped_training_goes_on_where_it_was(data, how, status):
    process = start(data, "--iterations=8")
    # Written when the first checkpoint is whole.
    wait_for((data / "run/last_checkpoint").exists, process, data)
    process.send_signal(how)
    assert process.wait(CEILING_S) == status, said_by(data)
    reached = newest(data / "run")["meta"]["iter"]
    assert 2 <= reached < 8
    if how == signal.SIGTERM:
        assert "Run the same command again to go on." in said_by(data)
    again = start(data, "--iterations=8")
    assert again.wait(CEILING_S) == 0, said_by(data)
    said = said_by(data)
    assert f"iter_{reached}.pth" in said
    assert newest(data / "run")["meta"]["iter"] == 8
    assert figures(data)["iterations"] == 8


@pytest.mark.slow
def test_a_signal_ends_the_check_and_the_test_too(data):
    val = ["--set=default_hooks.logger.interval=1"]
    process = start(data, "--iterations=2", *val)
    wait_for(lambda: "Iter(val)" in said_by(data), process, data)
    process.send_signal(signal.SIGTERM)
    assert process.wait(CEILING_S) == 75, said_by(data)
    assert "Stopped. Run the same command again" in said_by(data)
    assert start(data, "--iterations=2", *val).wait(CEILING_S) == 0
    assert figures(data)["iterations"] == 2


PROCESSES = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


@pytest.mark.slow
def test_two_processes_without_gpus_train_and_write_figures_once(data):
    given = ["--iterations=2", "--no-check", "--launcher=pytorch"]
    process = start(data, *given, before=PROCESSES)
    assert process.wait(CEILING_S) == 0, said_by(data)
    said = said_by(data)
    assert "batches of 4" in said and said.count("mask AP") == 1
    assert figures(data)["iterations"] == 2


def test_processes_that_nothing_started_are_an_error(data, capfd, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert main(flags(data, "--launcher=pytorch")) == 3
    assert "RANK and WORLD_SIZE are not set" in capfd.readouterr().err


def test_images_with_an_orientation_are_read_as_the_masks_lie(data):
    for path in (data / "images").iterdir():
        with Image.open(path) as image:
            exif = image.getexif()
            exif[0x0112] = 6  # a viewer turns it by 90 degrees
            image.save(path, exif=exif)
    assert main(flags(data, "--iterations=1")) == 0
    config = Config.fromfile(data / "run/config.py")
    dataset = DATASETS.build(config.train_dataloader.dataset)
    made = dataset[0]
    green, red = made["inputs"][1].int(), made["inputs"][2].int()
    mask = torch.from_numpy(made["data_samples"].gt_instances.masks.masks[0]).bool()
    is_bright = (red > 120) & (green < 120)
    assert (is_bright & mask).sum() > 0.9 * is_bright.sum() > 0


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
    "val.json: 1 of 12 masks cannot be read: object 2": lambda d: changed(
        d, "val", lambda c: c["annotations"][0].update(segmentation=[[1, 2, 3]])
    ),
    "cannot be read: No such file": lambda d: (d / "val.json").unlink(),
    "iscrowd other than 0 and 1: id 2": lambda d: changed(
        d, "train", lambda c: c["annotations"][0].update(iscrowd="0")
    ),
    "are not in": lambda d: (d / "images/003.jpg").rename(d / "images/x.jpg"),
    "images: a\\nb.": lambda d: named(d, "a\nb"),
    f"images: {200 * 'a'}.": lambda d: named(d, 5000 * "a"),
    "'../001.jpg' leads out of the image folder": lambda d: named(d, "../001.jpg"),
    "'/001.jpg' leads out of the image folder": lambda d: named(d, "/001.jpg"),
    "images/003.jpg cannot be read: image file is truncated": lambda d: cut(
        d / "images/003.jpg"
    ),
    "run/task.json cannot be read: [Errno 21]": lambda d: (d / "run/task.json").mkdir(
        parents=True
    ),
    "run/last_checkpoint: Is a directory": lambda d: (d / "run/last_checkpoint").mkdir(
        parents=True
    ),
}


def named(data, name):
    """Another file name of an image of the training split."""
    changed(data, "train", lambda c: c["images"][0].update(file_name=name))


def cut(path):
    """An image of which the second half is missing."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


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
        (["--set=model.neck.in_channels=[8,16"], "cannot be read: Imbalanced"),
        (["--set=model.neck.out_channels.x=1"], "out_channels.x cannot be set"),
        (["--set=model.bbox_head.stacked=1"], "model of the config cannot be built"),
        (["--separated-ids=none.json"], "none.json does not exist"),
        (["--occluded-ids=none.json"], "none.json does not exist"),
        (["--init=none.pth"], "none.pth"),
    ],
)
def test_wrong_flags_are_refused(data, given, said, capfd):
    assert main(flags(data, *given)) == 3
    assert said in capfd.readouterr().err


def test_a_config_that_is_none_is_refused(data, capfd):
    assert main(["none.py", *flags(data)[1:]]) == 3
    assert "none.py cannot be read" in capfd.readouterr().err


@pytest.mark.parametrize("text", ["a = 1 / 0", "a = (", "custom_imports = 'none_x'"])
def test_a_config_that_fails_is_refused(data, text, capfd):
    (data / "own.py").write_text(text)
    assert main([str(data / "own.py"), *flags(data)[1:]]) == 3
    said = capfd.readouterr().err
    assert "own.py cannot be read" in said and "Traceback" not in said


def test_check_only_trains_nothing(data, capfd):
    assert main(flags(data, "--check-only")) == 0
    assert "12 of 12 objects" in capfd.readouterr().err
    assert not (data / "run/figures.json").exists()
