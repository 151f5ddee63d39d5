import logging
import shutil

import pytest
from PIL import Image

from exits_jax.data.records import AnnotationError
from exits_jax.phases import pack, prepare
from exits_jax.run.prepared import instances
from exits_jax.run.workdir import ConfigError, Workdir
from exits_jax.shards.reader import ShardedImages
from tests.shards import drawn
from tests.support import toy


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data set with masks and the workdir of its finished phase `prepare`."""
    folder = tmp_path_factory.mktemp("data")
    toy.write_dataset(folder / "set")
    workdir = Workdir(folder / "run")
    config = toy.config_for(folder / "set", workdir.path)
    workdir.open(config)
    prepare.run(config, workdir)
    workdir.close()
    return folder / "set", workdir


def config_for(prepared, folder_of_shards, **changes):
    folder, workdir = prepared
    config = toy.config_for(folder, workdir.path)
    fields = {
        "shards": str(folder_of_shards),
        "shard_mb": 1,
        "name": "custom",
        "num_workers": 0,
    }
    with config.unlocked():
        config.data.update(fields | changes)
    return config


def test_the_prepared_data_set_is_packed_without_masks(prepared, tmp_path, caplog):
    folder, workdir = prepared
    with caplog.at_level(logging.INFO, "exits_jax"):
        packed = pack.run(config_for(prepared, tmp_path), workdir)
    assert packed.folder == str(tmp_path / "exits_custom" / "1.0.0")
    assert "8 records in 1 shards (0 there before)" in caplog.text
    images = ShardedImages(packed.folder)
    assert images.read_bytes(0) == (folder / "images" / "0001.jpg").read_bytes()
    for data in drawn.contents(tmp_path).values():
        assert b"segmentation" not in data


def test_a_second_run_finds_everything_done(prepared, tmp_path, caplog):
    _, workdir = prepared
    pack.run(config_for(prepared, tmp_path), workdir)
    with caplog.at_level(logging.INFO, "exits_jax"):
        assert pack.run(config_for(prepared, tmp_path), workdir).reused == 1
    assert "(1 there before)" in caplog.text


def test_the_name_picks_the_builder(prepared, tmp_path):
    packed = pack.run(config_for(prepared, tmp_path, name="voc"), prepared[1])
    assert packed.folder == str(tmp_path / "exits_voc" / "1.0.0")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shards": ""}, "data.shards is needed to pack"),
        ({"name": "pascal"}, "data.name = 'pascal': known are voc, coco, lvis, custom"),
        ({"shard_mb": 0}, "shard_mb must be at least 1"),
    ],
)
def test_fields_that_make_no_sense_are_refused(prepared, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        pack.run(config_for(prepared, tmp_path, **changes), prepared[1])
    assert not list(tmp_path.iterdir())


def test_shards_of_other_images_with_the_same_names_are_refused(prepared, tmp_path):
    folder, workdir = prepared
    pack.run(config_for(prepared, tmp_path / "out"), workdir)
    config = config_for(prepared, tmp_path / "out")
    assert len(instances(config, workdir, "train")) == 16
    shutil.copytree(folder, tmp_path / "set")
    for path in (tmp_path / "set" / "images").iterdir():
        with Image.open(path) as image:
            image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    other = Workdir(tmp_path / "run")
    others = config_for((tmp_path / "set", other), tmp_path / "out_of_others")
    other.open(others)
    prepare.run(others, other)
    pack.run(others, other)
    other.close()
    config.data.shards = others.data.shards
    with pytest.raises(
        ConfigError, match="8 of 8 images that were looked at in .*0001"
    ):
        instances(config, workdir, "train")


def test_prepare_has_to_be_finished(prepared, tmp_path):
    workdir = Workdir(tmp_path / "empty")
    with pytest.raises(ConfigError, match="Run `exits-jax prepare` first"):
        pack.run(config_for(prepared, tmp_path), workdir)


def test_shards_of_another_size_are_refused_with_the_digests(prepared, tmp_path):
    pack.run(config_for(prepared, tmp_path), prepared[1])
    with pytest.raises(ConfigError, match="shard_mb: 1 there, 2 here"):
        pack.run(config_for(prepared, tmp_path, shard_mb=2), prepared[1])


def test_an_image_that_went_since_prepare_is_named(prepared, tmp_path):
    folder, workdir = prepared
    image = folder / "images" / "0003.jpg"
    shutil.move(image, tmp_path / "0003.jpg")
    try:
        with pytest.raises(AnnotationError, match=r"0003\.jpg"):
            pack.run(config_for(prepared, tmp_path / "out"), workdir)
    finally:
        shutil.move(tmp_path / "0003.jpg", image)
    assert not (tmp_path / "out").exists()
