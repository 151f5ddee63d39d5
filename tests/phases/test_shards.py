"""Training on shards is training on the image files, bit for bit."""

import shutil

import pytest

from exits_jax import main
from tests import toy


@pytest.fixture
def folder(tmp_path):
    toy.write_dataset(tmp_path)
    return tmp_path


def _run(config, *phases):
    for phase in phases:
        assert main.run(config, phase) == main.OK


@pytest.mark.parametrize("num_workers", [0, 1])
def test_shards_train_the_same_parameters_without_the_images(
    folder, compile_cache, num_workers
):
    files = toy.config_for(folder, folder / "files")
    _run(files, "prepare", "warmup")
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
        toy.checkpoint(folder / "files", "warmup"),
        toy.checkpoint(folder / "packed", "warmup"),
    )


def test_shards_that_are_not_there_are_named(folder, capsys):
    config = toy.config_for(folder, folder / "run", data__shards=str(folder / "none"))
    assert main.run(config, "prepare") == main.OK
    assert main.run(config, "warmup") == main.BAD_INPUT
    said = capsys.readouterr().err
    assert str(folder / "none" / "exits_custom" / "1.0.0") in said


def test_packing_without_a_place_is_refused(folder, capsys):
    config = toy.config_for(folder, folder / "run")
    assert main.run(config, "prepare") == main.OK
    assert main.run(config, "pack") == main.USAGE
    assert "--config.data.shards=FOLDER" in capsys.readouterr().err
