"""What prepare writes: the records without masks, and the same objects as columns."""

import json

import numpy as np
import pytest

from exits_jax import exit_status, main
from exits_jax.data.annotations import read_instances
from exits_jax.data.table import Instances
from exits_jax.run.prepared import columns_folder
from exits_jax.run.workdir import Workdir
from tests.support import toy


@pytest.fixture
def folder(tmp_path):
    toy.write_dataset(tmp_path)
    return tmp_path


def _source(folder):
    return json.loads((folder / "annotations.json").read_text())


def _prepared(folder):
    return json.loads((folder / "run" / "annotations" / "train.json").read_text())


def test_masks_are_gone_and_all_else_stays_as_it_was(folder):
    source = _source(folder)
    derived, crowd, own = source["annotations"][:3]
    del derived["extreme_points"]
    crowd["iscrowd"] = 1
    toy.write_annotations(folder, source)
    assert main.run(toy.config_for(folder, folder / "run"), "prepare") == exit_status.OK
    text = (folder / "run" / "annotations" / "train.json").read_text()
    assert "segmentation" not in text
    left = json.loads(text)
    assert left["info"] == source["info"] and left["images"] == source["images"]
    assert len(left["annotations"]) == len(source["annotations"])
    for before, after in zip(source["annotations"], left["annotations"]):
        made = after.pop("extreme_points") if before is derived else None
        bare = {key: before[key] for key in before if key != "segmentation"}
        assert after == bare
        assert made is None or all(type(v) is int for point in made for v in point)
    assert left["annotations"][1]["iscrowd"] == 1
    assert left["annotations"][2]["extreme_points"] == own["extreme_points"]


def test_a_crowd_keeps_its_mark_and_gets_no_points(folder):
    source = _source(folder)
    crowd = source["annotations"][1]
    del crowd["extreme_points"]
    crowd["iscrowd"] = 1
    toy.write_annotations(folder, source)
    assert main.run(toy.config_for(folder, folder / "run"), "prepare") == exit_status.OK
    left = _prepared(folder)
    bare = {key: crowd[key] for key in crowd if key != "segmentation"}
    assert left["annotations"][1] == bare


def _without_points(folder):
    """Every second object has a mask alone; one of them is broken, one a crowd."""
    source = _source(folder)
    for record in source["annotations"][::2]:
        del record["extreme_points"]
    source["annotations"][0]["segmentation"] = [[1, 2, 3]]
    source["annotations"][2]["iscrowd"] = 1
    toy.write_annotations(folder, source)


@pytest.mark.parametrize("noise", ["none", "share"])
def test_columns_hold_the_objects_of_the_prepared_file(folder, noise):
    _without_points(folder)
    config = toy.config_for(folder, folder / "run", data__noise__kind=noise)
    config.data.noise.amount = 0.02 * (noise == "share")
    leftover = folder / "run" / "annotations" / ".train_columns"
    leftover.mkdir(parents=True)
    (leftover / "ids_ends.npy").write_text("half of an earlier run")
    assert main.run(config, "prepare") == exit_status.OK
    prepared = folder / "run" / "annotations" / "train.json"
    again = read_instances(prepared, folder / "images", on_bad="error").instances
    columns = Instances.open(columns_folder(Workdir(folder / "run"), "train"))
    assert len(columns) == 16 and columns == again
    assert columns.position.tolist() == list(range(16))
    assert columns.image_position.tolist() == list(range(8))
    assert np.count_nonzero(columns.has_points) == 14
    assert not toy.leftovers(folder / "run")


def test_a_broken_mask_beside_a_box_is_no_reason_to_skip(folder):
    _without_points(folder)
    config = toy.config_for(folder, folder / "run", data__max_skip_fraction=0.0)
    assert main.run(config, "prepare") == exit_status.OK
    left = _prepared(folder)
    assert "extreme_points" not in left["annotations"][0]
    assert left["annotations"][0]["bbox"]
    skipped = (folder / "run" / "annotations" / "train_skipped.json").read_text()
    assert json.loads(skipped) == []


def test_click_noise_moves_the_points_of_masks_and_no_others(folder):
    source = _source(folder)
    del source["annotations"][0]["extreme_points"]
    toy.write_annotations(folder, source)
    made = []
    for kind, amount in (("none", 0.0), ("px", 1.5)):
        workdir = folder / kind
        config = toy.config_for(folder, workdir, data__noise__kind=kind)
        config.data.noise.amount = amount
        assert main.run(config, "prepare") == exit_status.OK
        records = json.loads((workdir / "annotations" / "train.json").read_text())
        made.append([item["extreme_points"] for item in records["annotations"]])
    assert made[0][0] != made[1][0] and made[0][1:] == made[1][1:]
    assert np.abs(np.subtract(made[0][0], made[1][0])).max() < 8


def test_points_of_crowd_regions_do_not_count_as_objects(folder):
    source = _source(folder)
    source["annotations"][0]["iscrowd"] = 1
    toy.write_annotations(folder, source)
    assert main.run(toy.config_for(folder, folder / "run"), "prepare") == exit_status.OK
    facts = json.loads((folder / "run" / "phases" / "prepare.json").read_text())
    counts = facts["facts"]["counts"]["train"]
    assert counts == {"objects": 15, "with_points": 15, "crowds": 1, "skipped": 0}
