"""Runs and files whose models the tests predict with."""

import json
from pathlib import Path

import pytest

from configs import tiny
from convert_weights.__main__ import main as convert
from exits_jax import exit_status, main
from exits_jax.predict.predictor import Predictor
from tests.support import toy

# Clicks, a walk that joins the generator, and a refinement: all that decides a mask.
WITH_CLICKS = {
    "labels.stored": True,
    "prompt.enabled": True,
    "prompt.walk": False,
    "loss.mask": 1.0,
    "generate.source": "both",
    "generate.crf": True,
    "generate.click_depth": 0.2,
    "generate.flip": True,
    "generate.weights": "teacher",
    "generate.threshold": 0.4,
    "dense_crf.grid": 16,
    "train.steps": 4,
    "pretrain.enabled": True,
    "pretrain.steps": 2,
}


@pytest.fixture(scope="session")
def dataset(made_once):
    """A folder with images and annotations; not to be changed."""
    return made_once("dataset", toy.write_dataset)


@pytest.fixture(scope="session")
def clicked_run(dataset, made_once) -> Path:
    """Workdir of a run whose generator sees the clicks and is joined by a walk."""

    def run(workdir):
        config = toy.config_for(dataset, workdir, **WITH_CLICKS)
        assert main.run(config) == exit_status.OK

    return made_once("clicked_run", run)


@pytest.fixture(scope="session")
def tiny_run(made_once) -> Path:
    """Workdir of configs/tiny.py, whose phases are done."""

    def run(workdir):
        config = tiny.get_config()
        config.workdir = str(workdir)
        assert main.run(config) == exit_status.OK

    return made_once("tiny_run", run)


@pytest.fixture(scope="session")
def generator_file(clicked_run, made_once) -> Path:
    """The generator of `clicked_run` as a file."""

    def make(folder):
        folder.mkdir()
        out = folder / "generator.safetensors"
        assert convert([str(clicked_run), f"--out={out}"]) == 0

    return made_once("generator_file", make) / "generator.safetensors"


@pytest.fixture(scope="session")
def predictor(clicked_run):
    return Predictor.load(clicked_run)


@pytest.fixture(scope="session")
def records(clicked_run, dataset):
    """Annotations with the masks of `generate`, and the file of each one's image."""
    made = json.loads((clicked_run / "pseudo_masks.json").read_text())
    names = {image["id"]: image["file_name"] for image in made["images"]}
    return [
        (record, dataset / "images" / names[record["image_id"]])
        for record in made["annotations"]
    ]
