"""Training on shards is training on the image files, bit for bit."""

import fcntl
import shutil

import pytest

from exits_jax import exit_status, main
from tests.support import toy


@pytest.fixture
def folder(tmp_path):
    toy.write_dataset(tmp_path)
    return tmp_path


def _run(config, *phases):
    for phase in phases:
        assert main.run(config, phase) == exit_status.OK


@pytest.mark.parametrize("num_workers", [0, 1])
def test_shards_train_the_same_parameters_without_the_images(
    folder, whole_run, num_workers
):
    packed = toy.config_for(
        folder,
        folder / "packed",
        data__shards=str(folder / "shards"),
        data__shard_cache=str(folder / "cache"),
        data__num_workers=num_workers,
    )
    _run(packed, "prepare", "pack")
    shutil.rmtree(folder / "images")
    _run(packed, "warmup")
    toy.assert_same(
        toy.checkpoint(whole_run, "warmup"),
        toy.checkpoint(folder / "packed", "warmup"),
    )


def test_shards_that_are_not_there_are_named(folder, capsys):
    config = toy.config_for(folder, folder / "run", data__shards=str(folder / "none"))
    assert main.run(config, "prepare") == exit_status.OK
    assert main.run(config, "warmup") == exit_status.BAD_INPUT
    said = capsys.readouterr().err
    assert str(folder / "none" / "exits_custom" / "1.0.0") in said


def test_packing_without_a_place_is_refused(folder, capsys):
    config = toy.config_for(folder, folder / "run")
    assert main.run(config, "prepare") == exit_status.OK
    assert main.run(config, "pack") == exit_status.USAGE
    assert "--config.data.shards=FOLDER" in capsys.readouterr().err


def test_two_processes_do_not_pack_into_one_folder(folder, capsys):
    shards = folder / "shards"
    config = toy.config_for(folder, folder / "run", data__shards=str(shards))
    assert main.run(config, "prepare") == exit_status.OK
    notes = shards / "exits_custom" / "1.0.0" / "building"
    notes.mkdir(parents=True)
    with (notes / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main.run(config, "pack") == exit_status.USAGE
    assert "Another process is packing into" in capsys.readouterr().err
    assert main.run(config, "pack") == exit_status.OK
    assert not notes.exists()


def test_shards_of_another_split_are_named(folder, capsys):
    config = toy.config_for(folder, folder / "run", data__shards=str(folder / "shards"))
    assert main.run(config, "prepare") == exit_status.OK
    assert main.run(config, "pack") == exit_status.OK
    (folder / "images" / "0001.jpg").rename(folder / "images" / "x.jpg")
    text = (folder / "annotations.json").read_text().replace("0001.jpg", "x.jpg")
    (folder / "annotations.json").write_text(text)
    other = toy.config_for(folder, folder / "other", data__shards=config.data.shards)
    assert main.run(other, "prepare") == exit_status.OK
    assert main.run(other, "warmup") == exit_status.USAGE
    assert "has no image 'x.jpg'" in capsys.readouterr().err
