"""A workdir with drawn scenes at another place."""

import shutil

import pytest

from configs import tiny
from exits_jax import exit_status, main
from exits_jax.run.fingerprints import digest_of_folder
from exits_jax.run.identity import annotation_files, image_folders, refuse_changed
from exits_jax.run.image_names import read_source
from exits_jax.run.prepared import columns_folder, training_instances
from exits_jax.run.workdir import Workdir


@pytest.fixture(scope="module")
def config():
    made = tiny.get_config()
    made.data.scenes.num_train, made.data.scenes.num_val = 3, 2
    return made


@pytest.fixture(scope="module")
def moved(config, tmp_path_factory):
    """The digest of its columns before, and the workdir at its new place."""
    folder = tmp_path_factory.mktemp("moved")
    config.workdir = str(folder / "old")
    assert main.run(config, "prepare") == exit_status.OK
    before = digest_of_folder(columns_folder(Workdir(folder / "old"), "train"))
    shutil.move(folder / "old", folder / "new")
    config.workdir = str(folder / "new")
    return before, Workdir(folder / "new")


def test_its_images_are_those_inside(config, moved):
    objects = training_instances(config, moved[1])
    assert objects.read(0).shape == (160, 160, 3)
    inside = str(moved[1] / "scenes" / "train")
    assert all(path.startswith(inside) for path in objects.paths)
    assert objects[0].image_path.startswith(inside)


def test_its_sources_are_those_inside(moved):
    refuse_changed(moved[1])
    assert annotation_files(moved[1])["val"] == moved[1] / "scenes" / "val.json"
    assert image_folders(moved[1])["train"] == moved[1] / "scenes" / "train"
    assert len(read_source(moved[1], "train").images) == 3


def test_what_decides_its_masks_is_as_before(moved):
    assert digest_of_folder(columns_folder(moved[1], "train")) == moved[0]


def test_a_copy_does_not_read_the_first_one(config, moved, tmp_path):
    shutil.copytree(moved[1].path, tmp_path / "copy")
    (tmp_path / "copy" / "scenes" / "train" / "000001.png").unlink()
    objects = training_instances(config, Workdir(tmp_path / "copy"))
    with pytest.raises(FileNotFoundError, match="copy/scenes/train/000001.png"):
        objects.read(0)


def test_it_is_not_prepared_again(config, moved, capsys):
    assert main.run(config, "prepare") == exit_status.OK
    assert "drawing" not in capsys.readouterr().err
