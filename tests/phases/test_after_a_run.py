"""What must not happen to a finished run."""

import json
import shutil

import pytest

from exits_jax import exit_status, main
from tests.support import toy


@pytest.fixture(scope="module")
def once(dataset, tmp_path_factory):
    """A short run, and a copy of it and its data as they were."""
    folder = tmp_path_factory.mktemp("after")
    shutil.copytree(dataset, folder / "data")
    config = toy.config_for(folder / "data", folder / "run")
    config.train.steps = config.warmup.steps = 1
    assert main.run(config) == exit_status.OK
    for name in ("data", "run"):
        shutil.copytree(folder / name, folder / "before" / name)
    return config, folder


@pytest.fixture
def finished(once):
    """A finished run, with images that may be spoiled."""
    config, folder = once
    for name in ("data", "run"):
        shutil.rmtree(folder / name)
        shutil.copytree(folder / "before" / name, folder / name)
    return config.copy_and_resolve_references(), folder


def test_masks_are_not_replaced_by_none_when_the_images_are_gone(finished, capsys):
    config, folder = finished
    before = (folder / "run" / "pseudo_masks.json").read_bytes()
    shutil.rmtree(folder / "data" / "images")
    config.generate.threshold = 0.3
    assert main.run(config, "generate") == exit_status.PARTIAL
    said = capsys.readouterr().err
    assert "16 of 16 objects cannot be read any more" in said
    assert (folder / "run" / "pseudo_masks.json").read_bytes() == before


@pytest.fixture
def bereft(finished):
    """A finished run of which an image is gone and another is cut short."""
    config, folder = finished
    (folder / "data" / "images" / "0001.jpg").unlink()
    path = folder / "data" / "images" / "0002.jpg"
    path.write_bytes(path.read_bytes()[:600])
    config.evaluate.grabcut, config.generate.threshold = True, 0.3
    return config, folder


def test_objects_whose_image_is_gone_are_not_evaluated(bereft, capsys):
    config, folder = bereft
    assert main.run(config) == exit_status.OK
    said = capsys.readouterr().err
    assert "the images of 4 of 16 objects cannot be read any more: these are" in said
    found = json.loads((folder / "run" / "evaluation.json").read_text())
    assert found["all"]["count"] == 12
    assert found["points"]["crops"] == 12


def test_an_evaluation_of_few_objects_is_refused(finished, capsys):
    config, folder = finished
    shutil.rmtree(folder / "data" / "images")
    config.evaluate.grabcut, config.evaluate.num_points = True, 8
    before = (folder / "run" / "evaluation.json").read_bytes()
    assert main.run(config, "evaluate") == exit_status.PARTIAL
    assert "evaluate: 16 of 16 records cannot be used" in capsys.readouterr().err
    assert (folder / "run" / "evaluation.json").read_bytes() == before


def test_a_tool_leaves_the_record_of_the_run_alone(finished):
    config, folder = finished
    before = (folder / "run" / "config.json").read_bytes()
    config.export.kind = "labelme"
    config.data.train = ""
    assert main.run(config, "export") == exit_status.OK
    assert (folder / "run" / "config.json").read_bytes() == before


def test_a_crowd_mark_of_null_is_no_crowd(finished, capsys):
    config, folder = finished
    path = folder / "run" / "pseudo_masks.json"
    masks = json.loads(path.read_text())
    for record in masks["annotations"]:
        record["iscrowd"] = None
    path.write_text(json.dumps(masks))
    config.export.kind = "cvat"
    assert main.run(config, "export") == exit_status.BAD_INPUT
    assert "--config.export.source=COPY" in capsys.readouterr().err
    config.export.source = str(shutil.copy(path, folder / "changed.json"))
    assert main.run(config, "export") == exit_status.OK
    report = json.loads(
        (folder / "run" / "export" / "cvat" / "export_report.json").read_text()
    )
    assert report["counts"]["left_out"] == 0


@pytest.mark.parametrize("phase", ["prepare", "generate"])
def test_annotations_that_were_changed_since_are_named(finished, capsys, phase):
    config, folder = finished
    path = folder / "data" / "annotations.json"
    config.generate.threshold = 0.3
    path.touch()
    assert (
        main.run(config, "prepare") == exit_status.OK
    )  # another time, the same content
    source = json.loads(path.read_text())
    source["annotations"].pop()
    path.write_text(json.dumps(source))
    assert main.run(config, phase) == exit_status.USAGE
    said = capsys.readouterr().err
    assert f"{path} was changed after" in said
