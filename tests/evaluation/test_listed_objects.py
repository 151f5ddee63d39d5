"""What `evaluate` makes of lists that somebody else wrote."""

import json
import logging

import numpy as np
import pytest

from configs import tiny
from exits_jax import exit_status, main
from exits_jax.data.coco_file import CocoFile
from exits_jax.data.records import Instance
from exits_jax.data.table import Instances
from exits_jax.evaluation.listed_objects import object_lists
from tests.evaluation.test_object_lists import entry, mask_of, write_pickle
from tests.support import toy
from tests.support.coded_masks import coded


def source(**second):
    common = {"image_id": 1, "category_id": 1, "segmentation": coded(mask_of(1))}
    return CocoFile(
        "a.json",
        {
            "images": [{"id": 1, "height": 6, "width": 8}],
            "categories": [{"id": 1}],
            "annotations": [{"id": 5, **common}, {"id": 6, **common, **second}],
        },
    )


def evaluated(*ids):
    points = np.zeros((4, 2), np.float32)
    of = lambda one: Instance(one, 1, 1, "a", (6, 8), points, (0, 0, 2, 2), False, ())
    return Instances.of([of(one) for one in ids])


@pytest.fixture
def said(caplog, tmp_path):
    """Reads the ids 5 and 6; returns them and what was said about them."""

    def read(file, objects):
        config = tiny.get_config()
        config.evaluate.separated_ids = str(tmp_path / "list")
        write_pickle(tmp_path / "list", [entry(5), entry(6)])
        with caplog.at_level(logging.WARNING):
            ids = object_lists(config, file, objects).separated
        return ids, caplog.text

    return read


@pytest.fixture
def built(monkeypatch):
    """Places of the objects that were built one by one."""
    real, places = Instances.__getitem__, []

    def build(self, index):
        places.append(index)
        return real(self, index)

    monkeypatch.setattr(Instances, "__getitem__", build)
    return places


def test_objects_are_told_by_their_column_of_ids(said, built):
    """To build each one takes long where they are many."""
    assert said(source(), evaluated(*range(50)))[0] == {5, 6}
    assert len(built) < 9  # of checks of types


def test_without_a_list_no_object_is_looked_at(built):
    objects = evaluated(*range(50))
    assert object_lists(tiny.get_config(), source(), objects) == (None, None)
    assert len(built) < 9


def test_a_list_that_fits_is_taken_without_a_word(said):
    assert said(source(), evaluated(5, 6)) == ({5, 6}, "")


@pytest.mark.parametrize(
    "second", [{"image_id": [1]}, {"image_id": 9}, {"image_id": {}}]
)
def test_a_listed_record_without_an_image_is_told(said, second):
    ids, text = said(source(**second), evaluated(5))
    assert ids == {5, 6}
    assert "of 2 listed objects 0 are not in a.json and 1 have another mask" in text
    assert "1 listed objects do not count, 6 for one: they were left out" in text


@pytest.mark.parametrize("size", [{"height": "6"}, {"width": -1}, {"height": [6]}])
def test_sizes_that_are_no_sizes_are_masks_that_differ(said, size):
    file = source()
    file.images.replace({0: {"id": 1, "height": 6, "width": 8, **size}})
    assert "2 have another mask" in said(file, evaluated(5, 6))[1]


def test_a_list_that_cannot_be_read_is_told_before_a_training(
    dataset, tmp_path, capsys
):
    (tmp_path / "ids.json").write_text(json.dumps([1, None]))
    config = toy.config_for(dataset, tmp_path / "run")
    config.evaluate.separated_ids = str(tmp_path / "ids.json")
    assert main.run(config) == exit_status.BAD_INPUT
    assert "entry 1 is None, not an id" in capsys.readouterr().err
    assert not (tmp_path / "run" / "annotations").exists()
