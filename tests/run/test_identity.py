"""Data that are not those that were prepared."""

import errno
import os
import shutil
from pathlib import Path

import ml_collections as mlc
import numpy as np
import pytest
from PIL import Image

from exits_jax import exit_status, main
from exits_jax.data.table import Instances
from exits_jax.run.identity import refuse_changed, refuse_other, sample_images, stamp
from exits_jax.run.prepared import columns_folder
from exits_jax.run.workdir import ConfigError, Workdir
from tests.support import toy


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("identity")
    toy.write_dataset(folder)
    config = toy.config_for(folder, folder / "run", data__on_bad="skip")
    assert main.run(config, "prepare") == exit_status.OK
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A prepared data set, at its old place as far as its workdir knows."""
    yield made
    shutil.rmtree(made / "images")
    fresh = tmp_path / "fresh"
    toy.write_dataset(fresh)
    shutil.move(fresh / "images", made / "images")
    shutil.copy(fresh / "annotations.json", made / "annotations.json")


def _same_size_and_time(path, data):
    stat = path.stat()
    assert len(data) == stat.st_size
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _replace(folder, names):
    for name in names:
        pixels = np.full((toy.HEIGHT, toy.WIDTH, 3), 200, np.uint8)
        Image.fromarray(pixels).save(folder / "images" / name)


def test_data_that_nobody_touched_are_the_same(folder):
    refuse_changed(Workdir(folder / "run"))


def test_images_with_other_times_are_the_same(folder):
    for path in (folder / "images").iterdir():
        os.utime(path, ns=(1, 1))
    refuse_changed(Workdir(folder / "run"))


def test_images_that_were_replaced_by_others_of_their_size_are_refused(folder):
    _replace(folder, [path.name for path in (folder / "images").iterdir()])
    with pytest.raises(ConfigError, match="8 of 8 images .* not those .*0001.jpg"):
        refuse_changed(Workdir(folder / "run"))


def test_every_phase_refuses_them(folder, capsys):
    _replace(folder, ["0003.jpg"])
    config = toy.config_for(folder, folder / "run", data__on_bad="skip")
    for phase in ("warmup", "train", "generate", "evaluate"):
        assert main.run(config, phase) == exit_status.USAGE
        assert "1 of 8 images that were looked at" in capsys.readouterr().err


def test_an_image_that_cannot_be_opened_is_not_in_the_sample(folder, monkeypatch):
    """As one without permission, which `prepare` has skipped."""
    workdir = Workdir(folder / "run")
    objects = Instances.open(columns_folder(workdir, "train"))
    real = Path.open

    def refuse(path, *args, **options):
        if path.name == "0002.jpg":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    found = [path for path, *_ in sample_images(workdir, objects)]
    assert len(found) == 7
    assert not any(path.endswith("0002.jpg") for path in found)


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), None])
def test_images_that_are_gone_or_broken_are_no_other_images(folder, spoil):
    path = folder / "images" / "0002.jpg"
    if spoil is None:
        path.write_bytes(path.read_bytes()[:300])
    else:
        spoil(path)
    refuse_changed(Workdir(folder / "run"))


def test_annotations_of_the_same_size_and_time_are_told_apart(folder):
    path = folder / "annotations.json"
    _same_size_and_time(path, path.read_bytes().replace(b"ellipses", b"ellipsis", 1))
    with pytest.raises(ConfigError, match="annotations.json was changed after"):
        refuse_changed(Workdir(folder / "run"))


def test_a_change_between_the_blocks_is_noticed_by_who_reads_all(tmp_path):
    path = tmp_path / "large.json"
    data = bytearray(2**21)  # 16 blocks of 64 KB, as far from each other
    path.write_bytes(data)
    workdir = Workdir(tmp_path / "run")
    workdir.path.mkdir()
    workdir.start("prepare", mlc.ConfigDict(), ())
    workdir.finish(
        "prepare", sources={"train": str(path)}, stamps={"train": stamp(path)}
    )
    data[2**16 + 2**15] = 1
    _same_size_and_time(path, bytes(data))
    refuse_changed(workdir)
    with pytest.raises(ConfigError, match="large.json does not hold any more"):
        refuse_other(workdir, "train")


def test_annotations_that_were_replaced_are_noticed_by_who_reads_them(folder):
    path = folder / "annotations.json"
    _same_size_and_time(path, path.read_bytes().replace(b"ellipses", b"ellipsis", 1))
    with pytest.raises(ConfigError, match="annotations.json does not hold any more"):
        refuse_other(Workdir(folder / "run"), "train")
