"""Masks of a data set by a model that was trained elsewhere."""

import json

import pytest

from exits_jax import __main__ as command
from exits_jax import exit_status
from tests.support import toy


def do(*words):
    return command.console([*map(str, words)])


def fields_of(dataset, workdir, model):
    """A call that names data and a model; of another configuration than the model's."""
    return [
        "--config=custom",
        f"--workdir={workdir}",
        f"--config.data.train={dataset / 'annotations.json'}",
        f"--config.data.images={dataset / 'images'}",
        "--config.evaluate.grabcut=False",
        "--config.evaluate.num_pictures=2",
        f"--config.generate.model={model}",
    ]


def masks(workdir):
    made = json.loads((workdir / "pseudo_masks.json").read_text())
    return {item["id"]: item["segmentation"] for item in made["annotations"]}


def test_a_finished_run_labels_other_data_without_training(
    whole_run, dataset, tmp_path, capsys
):
    workdir = tmp_path / "other"
    assert do("run", *fields_of(dataset, workdir, whole_run)) == exit_status.OK
    assert masks(workdir) == masks(whole_run)
    assert not (workdir / "checkpoints").exists()
    table = json.loads((workdir / "evaluation.json").read_text())
    wanted = json.loads((whole_run / "evaluation.json").read_text())
    assert table["all"] == wanted["all"]
    assert "phase train: not used" in capsys.readouterr().err
    info = json.loads((workdir / "manifest.json").read_text())["exits_jax"]
    assert info["model"] == str(whole_run)


def test_flags_go_before_what_the_model_says(whole_run, dataset, tmp_path):
    workdir = tmp_path / "other"
    words = fields_of(dataset, workdir, whole_run)
    assert do("prepare", *words) == exit_status.OK
    flag = "--config.generate.threshold=0.6"
    assert do("generate", *words, flag) == exit_status.OK
    config = json.loads((workdir / "config.json").read_text())
    trained = toy.config_for(dataset, whole_run)
    assert config["generate"]["threshold"] == 0.6
    assert config["model"]["dim"] == trained.model.dim
    assert config["crop"]["size"] == trained.crop.size


def test_the_workdir_remembers_the_model(whole_run, dataset, tmp_path):
    workdir = tmp_path / "other"
    assert do("run", *fields_of(dataset, workdir, whole_run)) == exit_status.OK
    again = f"--workdir={workdir}", "--config.generate.threshold=0.6"
    assert do("evaluate", *again) == exit_status.OK
    table = json.loads((workdir / "evaluation.json").read_text())
    assert table["mask_threshold"] == 0.6


def test_a_walk_is_not_made_up_for_a_model_that_has_none(
    whole_run, dataset, tmp_path, capsys
):
    words = fields_of(dataset, tmp_path / "other", whole_run)
    status = do("run", *words, "--config.generate.source=both")
    assert status == exit_status.BAD_INPUT
    assert "has no encoder for the walk" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "said"),
    [("nowhere", "No weights at nowhere"), ("", "Labels and masks of the walk")],
)
def test_a_model_that_is_none_is_refused_before_prepare(
    dataset, tmp_path, capsys, model, said
):
    workdir = tmp_path / "other"
    status = do("run", *fields_of(dataset, workdir, model))
    assert status in (exit_status.BAD_INPUT, exit_status.USAGE)
    assert said in capsys.readouterr().err
    assert not (workdir / "annotations").exists()
