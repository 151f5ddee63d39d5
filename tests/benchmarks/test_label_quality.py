"""What the MIL + CRF baseline shares with the run that it is compared with."""

from pathlib import Path

import ml_collections as mlc
import numpy as np
import pytest

from benchmarks.label_quality import (
    SHARED,
    START,
    baseline_of,
    groups_of,
    shared_files,
    take_over,
)
from configs import custom, quickstart
from exits_jax.data.records import Instance
from exits_jax.data.table import Instances
from exits_jax.evaluation.iou import EvaluatedObject, summarize
from exits_jax.run.check_config import check_config
from exits_jax.run.identity import refuse_changed
from exits_jax.run.prepared import columns_folder
from exits_jax.run.workdir import Workdir
from tests.support import toy

CLICKS = {
    "prompt": {"enabled": True, "sigma": 0.03},
    "generate": {"source": "both", "click_depth": 0.1, "crf": True, "threshold": 0.4},
    "dense_crf": {"grid": 56},
}


def with_clicks():
    """A configuration that has, and uses, all that reads the clicks."""
    config = mlc.ConfigDict(custom.get_config("cpu").to_dict())
    for section, fields in CLICKS.items():
        config[section] = config.get(section, mlc.ConfigDict()).to_dict() | fields
    return config


def flat(config):
    pairs = [(key, value) for key, value in config.items() if hasattr(value, "items")]
    return {(key, name): x for key, value in pairs for name, x in value.items()}


def test_the_baseline_differs_in_its_losses_and_in_what_reads_the_clicks():
    ours, theirs = flat(with_clicks()), flat(baseline_of(with_clicks()))
    changed = {key: theirs[key] for key in ours if ours[key] != theirs[key]}
    assert changed == {
        ("loss", "method"): "mil_crf",
        ("prompt", "enabled"): False,
        ("generate", "source"): "generator",
        ("generate", "click_depth"): 0.0,
    }
    assert ours.keys() == theirs.keys()


def test_the_run_keeps_its_own_configuration():
    config = with_clicks()
    baseline_of(config)
    assert flat(config) == flat(with_clicks())


@pytest.mark.parametrize(
    "config", [quickstart.get_config(), custom.get_config("cpu")], ids=["drawn", "cpu"]
)
def test_the_baseline_can_be_trained(config):
    config.data.train = config.data.train or __file__
    config.data.images = config.data.images or "."
    check_config(baseline_of(config))


def test_a_start_that_read_the_clicks_is_not_taken_over():
    assert shared_files(with_clicks()) == SHARED
    config = with_clicks()
    config.prompt.enabled = False
    assert shared_files(config) == (*SHARED, START)


def test_the_table_holds_groups_of_objects_alone():
    item = EvaluatedObject(1, 3, 0.9, "small", is_separated=False)
    summary = summarize([item])
    rest = {"floors": {"box_as_mask": summary}, "points": {"crops": 9}, "split": "val"}
    assert groups_of({**summary, **rest}) == summary


def test_data_inside_the_folder_of_the_run_are_there_for_the_baseline(tmp_path):
    ours, theirs = Workdir(tmp_path / "run"), Workdir(tmp_path / "run-mil_crf")
    for workdir in (ours, theirs):
        workdir.path.mkdir()
    image, imported = ours / "photos" / "1.jpg", ours / "imported.json"
    toy.write_dataset(ours.path)
    (ours / "images").rename(ours / "photos")
    (ours / "annotations.json").rename(imported)
    points = np.zeros((4, 2), np.float32)
    one = Instance(1, 1, 1, str(image), (6, 8), points, (0, 0, 2, 2), False, ())
    Instances.of([one]).save(columns_folder(ours, "train"), inside=ours.path)
    ours.start("prepare", mlc.ConfigDict(), ())
    ours.finish("prepare", sources={"train": ours.keep(imported)})
    take_over(with_clicks(), ours, theirs)
    refuse_changed(theirs)
    assert theirs.find(theirs.facts("prepare")["sources"]["train"]).samefile(imported)
    (found,) = Instances.open(columns_folder(theirs, "train")).paths
    assert Path(found).parent.samefile(image.parent)
