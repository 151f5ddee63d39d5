"""Masks from the walk, and labels that it makes once per object, through the phases."""

import json
import logging
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from exits_jax import exit_status, main
from exits_jax.data import rle
from exits_jax.files.seals import Damaged, read_sealed, write_sealed
from exits_jax.labeling import stored_labels as phase
from exits_jax.labeling.check_walk import check_walk
from exits_jax.labeling.model_source import walk_encoder
from exits_jax.run.prepared import instances, training_instances
from exits_jax.run.starting_weights import check_files
from exits_jax.run.workdir import ConfigError, Workdir
from tests.support import toy

WALK = {
    "generate.source": "walk",
    "generate.crf": True,
    "generate.click_depth": 0.2,
    "dense_crf.grid": 32,
    "walk.ridge_block": 1,
}
STORED = {
    "labels.stored": True,
    "prompt.enabled": True,
    "loss.mask": 1.0,
    "generate.source": "both",
    "generate.crf": True,
    "generate.click_depth": 0.2,
    "dense_crf.grid": 16,
    "train.steps": 4,
}
PRETRAINED = {"pretrain.enabled": True, "pretrain.steps": 2}


def config_for(folder, workdir, changes):
    """A short run whose encoder is pre-trained, for the walk to have attention."""
    return toy.config_for(folder, workdir, **changes, **PRETRAINED)


def read(path):
    return json.loads(Path(path).read_text())


@pytest.fixture(scope="module")
def walked(dataset, tmp_path_factory):
    """Configuration of a run that trains nothing but the encoder."""
    folder = tmp_path_factory.mktemp("walk")
    config = config_for(dataset, folder / "run", WALK)
    assert main.run(config) == exit_status.OK
    return config


@pytest.fixture(scope="module")
def stored(dataset, tmp_path_factory):
    """Configuration of a run that learns from stored labels."""
    folder = tmp_path_factory.mktemp("stored")
    config = config_for(dataset, folder / "run", STORED)
    assert main.run(config) == exit_status.OK
    return config


def test_the_walk_needs_no_phase_that_trains_a_generator(walked):
    workdir = Path(walked.workdir)
    assert (workdir / "pseudo_masks.json").exists()
    assert {path.stem for path in (workdir / "phases").iterdir()} == {
        "prepare",
        "pretrain",
        "generate",
        "evaluate",
    }


def test_every_object_has_a_mask_that_holds_its_clicks(walked):
    made = read(f"{walked.workdir}/pseudo_masks.json")
    assert len(made["annotations"]) == 16
    assert made["info"]["exits_jax"]["method"] == "walk"
    for record in made["annotations"]:
        assert record["exits"]["click_hit"] == [1] * 4
        mask = rle.decode(record["segmentation"])
        assert 0 < mask.mean() < 0.5


def test_the_masks_are_better_than_their_boxes(walked):
    found = read(f"{walked.workdir}/evaluation.json")
    box = found["floors"]["box_as_mask"]["all"]["object_miou"]
    assert found["all"]["object_miou"] > box + 0.05
    assert found["mask_source"] == "walk"


def test_masks_of_the_walk_are_the_same_without_any_true_mask(walked, tmp_path):
    folder = Path(walked.data.train).parent
    bare = read(walked.data.train)
    for record in bare["annotations"]:
        del record["segmentation"]
    (tmp_path / "images").symlink_to(folder / "images")
    toy.write_annotations(tmp_path, bare)
    config = config_for(tmp_path, tmp_path / "run", WALK)
    assert main.run(config) == exit_status.OK
    masks = lambda workdir: [
        record["segmentation"]
        for record in read(f"{workdir}/pseudo_masks.json")["annotations"]
    ]
    assert masks(config.workdir) == masks(walked.workdir)


def test_other_values_of_the_walk_make_the_masks_again(walked, capfd):
    config = walked.copy_and_resolve_references()
    before = read(f"{config.workdir}/pseudo_masks.json")
    config.walk.cut = 3.0
    assert main.run(config, "generate") == exit_status.OK
    assert "walk.cut: was 0.5, is 3.0" in Path(config.workdir, "log.txt").read_text()
    assert read(f"{config.workdir}/pseudo_masks.json") != before
    assert main.run(walked, "generate") == exit_status.OK
    assert read(f"{config.workdir}/pseudo_masks.json") == before


@pytest.mark.parametrize("source", ["walk", "both"])
def test_a_walk_without_an_encoder_is_refused(dataset, tmp_path, source):
    changes = WALK | {"generate.source": source}
    config = toy.config_for(dataset, tmp_path / "run", **changes)
    with pytest.raises(ConfigError, match="attention of an encoder, and there is none"):
        check_files(config)
    assert main.run(config, "prepare") == exit_status.OK
    assert main.run(config) == exit_status.USAGE


def test_attention_that_knows_no_objects_is_called_so(walked, caplog):
    workdir = Workdir(walked.workdir)
    encoder = walk_encoder(walked, workdir)
    blind = jax.tree.map(np.zeros_like, encoder)
    with caplog.at_level(logging.INFO):
        check_walk(walked, blind, instances(walked, workdir, "train"))
    (record,) = (r for r in caplog.records if "held-out" in r.message)
    assert record.levelno == logging.WARNING
    assert "does not know objects" in record.message


def test_the_walk_alone_stands_beside_what_learnt_from_it(stored):
    floors = read(f"{stored.workdir}/evaluation.json")["floors"]
    assert floors["walk_alone"]["all"]["clicks_hit"] == 1
    assert floors["walk_alone"]["all"]["object_miou"] > 0


def test_the_log_says_which_number_of_hops_holds(stored):
    log = (Path(stored.workdir) / "log.txt").read_text()
    assert f"(walk.num_hops = {stored.walk.num_hops}); points.num_hops" in log


def test_labels_are_made_once(stored, monkeypatch):
    workdir = Workdir(stored.workdir)
    objects = training_instances(stored, workdir)
    path = Path(stored.workdir) / "labels" / "labels.npy"
    assert np.load(path).shape == (16, 8 * 8 + 16 * 16)
    monkeypatch.setattr(phase, "_make_parts", None)  # nothing is made any more
    store = phase.stored_labels(stored, workdir, objects)
    assert store.read(3)["stored_mask"].shape == (16, 16)


def test_the_first_process_alone_reads_all_labels_to_check_them(stored, monkeypatch):
    monkeypatch.setattr(phase.jax, "process_index", lambda: 1)
    monkeypatch.setattr(phase, "_fault", lambda _: pytest.fail("read"))
    workdir = Workdir(stored.workdir)
    phase.stored_labels(stored, workdir, training_instances(stored, workdir))


def test_labels_that_another_process_found_damaged_are_refused_by_all(
    stored, monkeypatch
):
    """Else the others would wait for it for ever."""
    monkeypatch.setattr(phase, "all_agree", lambda opinion: False)
    workdir = Workdir(stored.workdir)
    objects = training_instances(stored, workdir)
    with pytest.raises(Damaged, match="labels.npy is not what was written"):
        phase.stored_labels(stored, workdir, objects)


def test_labels_of_other_values_are_made_again(stored, tmp_path):
    workdir = Workdir(stored.workdir)
    objects = training_instances(stored, workdir)
    path = Path(stored.workdir) / "labels" / "labels.npy"
    before = np.load(path)
    config = stored.copy_and_resolve_references()
    config.walk.depth_weight = 3.0
    phase.stored_labels(config, workdir, objects)
    assert (np.load(path) != before).any()
    phase.stored_labels(stored, workdir, objects)
    np.testing.assert_array_equal(np.load(path), before)


def test_a_walk_that_is_nan_is_no_label(stored, monkeypatch):
    """The attention of weights that overflow; bytes would hold it as zeros."""
    workdir = Workdir(stored.workdir)
    objects = training_instances(stored, workdir)
    config = stored.copy_and_resolve_references()
    config.walk.depth_weight = 4.0
    huge = jax.tree.map(lambda x: 1e30 * x, phase.walk_encoder(stored, workdir))
    monkeypatch.setattr(phase, "walk_encoder", lambda *_: huge)
    with pytest.raises(FloatingPointError, match=r"Annotation \d+: its walk is NaN"):
        phase.stored_labels(config, workdir, objects)
    monkeypatch.undo()
    phase.stored_labels(stored, workdir, objects)


def test_a_restart_keeps_the_parts_that_are_there_if_they_are_of_that_size(stored):
    config = stored.copy_and_resolve_references()
    config.generate.batch_size = config.generate.part_size = 4
    workdir = Workdir(stored.workdir)
    objects = training_instances(stored, workdir)
    folder = Path(stored.workdir) / "labels"
    before = np.load(folder / "labels.npy")
    (folder / "labels.npy").unlink()
    (folder / "parts").mkdir()
    kept = np.full_like(before[8:12], 7)
    np.save(folder / "parts" / "000000008-000000012.npy", kept)
    np.save(folder / "parts" / "000000000-000000008.npy", np.full_like(before[:8], 9))
    phase.stored_labels(config, workdir, objects)
    found = np.load(folder / "labels.npy")
    np.testing.assert_array_equal(found[8:12], kept)
    np.testing.assert_array_equal(found[:8], before[:8])
    np.testing.assert_array_equal(found[12:], before[12:])
    np.save(folder / "labels.npy", before)


def test_stored_labels_and_training_read_no_mask(stored, tmp_path):
    folder = Path(stored.data.train).parent
    bare = read(stored.data.train)
    for record in bare["annotations"]:
        del record["segmentation"]
    (tmp_path / "images").symlink_to(folder / "images")
    toy.write_annotations(tmp_path, bare)
    config = config_for(tmp_path, tmp_path / "run", STORED)
    assert main.run(config) == exit_status.OK
    with_masks = toy.checkpoint(Path(stored.workdir), "train")
    without = toy.checkpoint(Path(config.workdir), "train")
    assert with_masks.keys() == without.keys()
    for name, value in with_masks.items():
        np.testing.assert_array_equal(value, without[name], err_msg=name)


def test_a_training_does_not_go_on_with_labels_of_another_kind(stored, tmp_path):
    shutil.copytree(stored.workdir, tmp_path / "run")
    config = stored.copy_and_resolve_references()
    config.workdir = str(tmp_path / "run")
    record = tmp_path / "run/phases/train.json"
    write_sealed(record, read_sealed(record) | {"status": "running"})
    config.walk.cut = 1.5
    workdir = Workdir(config.workdir)
    objects = training_instances(config, workdir)
    with pytest.raises(ConfigError, match="different: walk.*--redo=train"):
        phase.stored_labels(config, workdir, objects)


@pytest.mark.parametrize("command", ["train", "generate"])
def test_labels_that_a_finished_training_learnt_from_are_not_those_of_now(
    stored, tmp_path, monkeypatch, capsys, command
):
    config = _with_other_hops(stored, tmp_path)
    monkeypatch.setitem(main.PHASES, command, lambda *_: None)  # it is said before
    assert main.run(config, command) == exit_status.OK
    said = capsys.readouterr().err
    before = stored.walk.num_hops
    changed = f"(walk.num_hops: was {before}, is {config.walk.num_hops})"
    assert said.count(f"labels that other values made {changed}. Masks") == 1
    assert "--redo=train makes the labels again" in said


def test_labels_of_the_values_of_now_are_not_spoken_of(stored, capsys):
    assert main.run(stored, "train") == exit_status.OK
    assert "other values" not in capsys.readouterr().err


def _with_other_hops(stored, tmp_path):
    """Configuration of a copy of the run, changed after its end."""
    shutil.copytree(stored.workdir, tmp_path / "run")
    config = stored.copy_and_resolve_references()
    config.workdir = str(tmp_path / "run")
    config.walk.num_hops += 1
    return config


def test_other_thresholds_of_labels_are_another_training(stored):
    config = stored.copy_and_resolve_references()
    config.labels.fg_probability = 0.8
    assert main.run(config, "train") == exit_status.USAGE
