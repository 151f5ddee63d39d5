"""Labelling in parts: what a restart, other processes and small memory change."""

import json
import shutil

import jax
import pytest
from jax.errors import JaxRuntimeError

from exits_jax import exit_status, main
from exits_jax.data.coco_file import CocoFile
from exits_jax.data.records import TooManySkipped
from exits_jax.labeling import label
from exits_jax.labeling.merge import merge
from exits_jax.labeling.part_files import (
    Parts,
    count_unreadable,
    find_kept,
    part_size,
    read_parts,
)
from exits_jax.phases import generate
from exits_jax.run.from_config import generator_builder
from exits_jax.run.prepared import instances, read_problems
from exits_jax.run.workdir import Workdir
from exits_jax.train.sharding import make_mesh, replicate
from tests.support import many_objects, toy

NUM_OBJECTS = 30  # in batches of 4 and parts of 8: the last part has 6


class Labeling:
    """Prepared objects, drawn parameters, and parts in a folder."""

    def __init__(self, config, folder):
        self.config, self.workdir = config, Workdir(config.workdir)
        self.objects = instances(config, self.workdir, "train")
        self.mesh = make_mesh(devices=jax.local_devices())
        _, params = toy.model(generator_builder(config, role="generator"))
        self.models = label.Models([replicate(self.mesh, params)])
        self.parts = Parts(folder, "train", 0, 0, {})
        self.take(self.objects)

    def take(self, objects):
        self.objects = objects
        self.parts = self.parts._replace(
            num_objects=len(objects), size=part_size(self.config)
        )

    def make(self, *, process=0, num_processes=1):
        generate.make_parts(
            self.config,
            self.mesh,
            self.models,
            self.objects,
            self.parts,
            process=process,
            num_processes=num_processes,
        )

    def outcomes(self):
        return list(read_parts(self.parts, self.objects.position))

    def merge(self, out, *, max_unreadable=0.5):
        source = CocoFile.read(self.config.data.train)
        problems = read_problems(self.workdir, "train")
        rest = (self.parts, self.objects.position, problems, {"version": "test"})
        merge(out, source, *rest, max_unreadable=max_unreadable)
        names = ("pseudo_masks.json", "skipped.json", "manifest.json")
        return [(out / name).read_bytes() for name in names]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A configuration whose objects are prepared, one of them left out."""
    folder = tmp_path_factory.mktemp("many")
    path = many_objects.write_dataset(folder / "data", num_objects=NUM_OBJECTS + 1)
    source = json.loads(path.read_text())
    source["annotations"][5]["bbox"] = source["annotations"][5]["extreme_points"] = None
    path.write_text(json.dumps(source))
    config = many_objects.config_for(folder / "data", folder / "run")
    config.generate.batch_size, config.generate.part_size = 4, 6
    assert main.run(config, "prepare") == exit_status.OK
    return config


@pytest.fixture
def labeling(prepared, tmp_path):
    return Labeling(prepared.copy_and_resolve_references(), tmp_path / "parts")


@pytest.fixture
def sizes(monkeypatch):
    """Rows of each batch that the devices are asked for."""
    asked = []
    real = label.logits_of

    def counted(*args):
        predict = real(*args)
        return lambda rows: asked.append(len(rows["image"])) or predict(rows)

    monkeypatch.setattr(label, "logits_of", counted)
    return asked


def contents(parts):
    return {path.name: path.read_bytes() for path in parts.folder.iterdir()}


def test_parts_are_rounded_up_to_whole_batches(labeling):
    labeling.make()
    numbers = [len(labeling.parts.rows(k)) for k in range(labeling.parts.num_parts)]
    assert numbers == [8, 8, 8, 6]
    assert len(labeling.outcomes()) == NUM_OBJECTS


@pytest.mark.parametrize("num_processes", [2, 3, 7])
def test_part_files_do_not_depend_on_the_number_of_processes(labeling, num_processes):
    labeling.make()
    alone = contents(labeling.parts)
    shutil.rmtree(labeling.parts.folder)
    for process in range(num_processes):
        labeling.make(process=process, num_processes=num_processes)
    assert contents(labeling.parts) == alone


def test_what_was_made_is_not_made_again_by_any_number_of_processes(labeling, sizes):
    labeling.make(process=1, num_processes=2)
    assert len(sizes) == 4  # 8 and 6 objects
    labeling.make(process=0, num_processes=3)  # parts 0 and 3, and 3 is there
    assert len(sizes) == 6
    assert find_kept(labeling.parts) == {0, 1, 3}
    labeling.make()
    assert len(sizes) == 8
    labeling.make()
    assert len(sizes) == 8


def test_batches_are_filled_up_where_the_devices_do_not_divide_them(labeling, sizes):
    labeling.config.generate.batch_size = 6
    labeling.take(labeling.objects)
    labeling.make()
    assert sizes == [8] * 5
    assert len(labeling.outcomes()) == NUM_OBJECTS


@pytest.mark.parametrize("num_objects", [0, 1, 3])
def test_fewer_objects_than_devices_are_labeled(labeling, num_objects):
    few = labeling.objects[:num_objects]
    labeling.take(few)
    for process in range(3):
        labeling.make(process=process, num_processes=3)
    assert len(labeling.outcomes()) == num_objects


def test_with_too_little_memory_for_a_batch_the_masks_are_those_of_a_smaller_one(
    labeling, monkeypatch
):
    real = label.logits_of

    def small(*args):
        predict = real(*args)

        def guarded(rows):
            if len(rows["image"]) > 4:
                raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory.")
            return predict(rows)

        return guarded

    monkeypatch.setattr(label, "logits_of", small)
    labeling.make()
    wanted = labeling.outcomes()
    shutil.rmtree(labeling.parts.folder)
    labeling.config.generate.batch_size = 16
    labeling.take(labeling.objects)
    labeling.make()
    assert labeling.outcomes() == wanted


def test_a_merge_holds_what_prepare_left_out_and_is_the_same_each_time(
    labeling, tmp_path
):
    labeling.make()
    first = labeling.merge(tmp_path / "first")
    assert labeling.merge(tmp_path / "again") == first
    assert [entry["id"] for entry in json.loads(first[1])] == [1005]
    source = json.loads((tmp_path / "first" / "pseudo_masks.json").read_text())
    assert len(source["annotations"]) == NUM_OBJECTS


def test_objects_are_labeled_once_their_images_are_back(labeling, tmp_path):
    labeling.make()
    wanted = labeling.merge(tmp_path / "out")
    shutil.rmtree(labeling.parts.folder)
    images = tmp_path / labeling.config.data.images
    hidden = images.with_name("hidden")
    images.rename(hidden)
    try:
        labeling.make()
        assert count_unreadable(labeling.parts) == NUM_OBJECTS
        with pytest.raises(TooManySkipped, match="30 of 30 objects") as caught:
            labeling.merge(tmp_path / "out")
    finally:
        hidden.rename(images)
    assert len(caught.value.problems) == NUM_OBJECTS
    labeling.make()
    assert labeling.merge(tmp_path / "out") == wanted


@pytest.fixture
def again(whole_run, dataset, tmp_path):
    """A configuration whose run has everything but its masks, in parts of one batch."""
    shutil.copytree(whole_run, tmp_path / "run")
    (tmp_path / "run" / "phases" / "generate.json").unlink()
    (tmp_path / "run" / "pseudo_masks.json").unlink()
    return toy.config_for(dataset, tmp_path / "run", generate__part_size=8)


def test_an_interrupted_phase_goes_on_where_it_was(
    again, whole_run, monkeypatch, sizes, capsys
):
    real, run = generate.write_part, Workdir(again.workdir)

    def interrupted(parts, part, outcomes):
        if part == 1:
            raise KeyboardInterrupt
        real(parts, part, outcomes)

    monkeypatch.setattr(generate, "write_part", interrupted)
    assert main.run(again, "generate") == exit_status.INTERRUPTED
    monkeypatch.setattr(generate, "write_part", real)
    assert not (run / "pseudo_masks.json").exists()
    sizes.clear()
    assert main.run(again, "generate") == exit_status.OK
    assert "1 of 2 parts were made before and are kept" in capsys.readouterr().err
    assert sizes == [8]
    wanted = (whole_run / "pseudo_masks.json").read_bytes()
    assert (run / "pseudo_masks.json").read_bytes() == wanted
    assert not (run / "parts").exists()


def test_no_object_is_labeled_again_for_a_merge_that_failed(again, monkeypatch, sizes):
    def full(*args, **options):
        raise KeyboardInterrupt

    real = generate.merge
    monkeypatch.setattr(generate, "merge", full)
    assert main.run(again, "generate") == exit_status.INTERRUPTED
    assert len(sizes) == 2
    monkeypatch.setattr(generate, "merge", real)
    assert main.run(again, "generate") == exit_status.OK
    assert len(sizes) == 2


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("threshold", 0.3, "generate.threshold: was 0.5, is 0.3"),
        ("weights", "teacher", "parameters: was '"),
        ("part_size", 16, "into 1 parts of 16"),
    ],
)
def test_masks_of_other_values_are_refused_by_the_phase(
    again, monkeypatch, sizes, capsys, field, value, words
):
    def full(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(generate, "merge", full)
    assert main.run(again, "generate") == exit_status.INTERRUPTED
    monkeypatch.undo()
    before = contents(Parts(Workdir(again.workdir) / "parts", "train", 16, 8, {}))
    again.generate[field] = value
    assert main.run(again, "generate") == exit_status.USAGE
    assert words in capsys.readouterr().err
    after = contents(Parts(Workdir(again.workdir) / "parts", "train", 16, 8, {}))
    assert after == before
