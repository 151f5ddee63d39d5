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


def test_a_tool_leaves_the_record_of_the_run_alone(finished):
    config, folder = finished
    before = (folder / "run" / "config.json").read_bytes()
    config.export.kind = "labelme"
    config.data.train = ""
    assert main.run(config, "export") == exit_status.OK
    assert (folder / "run" / "config.json").read_bytes() == before


def test_a_crowd_mark_of_null_is_no_crowd(finished):
    config, folder = finished
    path = folder / "run" / "pseudo_masks.json"
    masks = json.loads(path.read_text())
    for record in masks["annotations"]:
        record["iscrowd"] = None
    path.write_text(json.dumps(masks))
    config.export.kind = "cvat"
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
