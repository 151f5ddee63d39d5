"""Runs a phase on a data set of `tests.support.toy` and reads what it made."""

import json
import sys

from exits_jax import main
from exits_jax.phases import validate
from exits_jax.run.reported import status_of, stop_logging
from exits_jax.run.workdir import Workdir
from tests.support import toy


def run(config, phase):
    """The exit status."""
    if phase in main.PHASES:
        return main.run(config, phase)
    workdir = Workdir(config.workdir)
    workdir.path.mkdir(parents=True, exist_ok=True)
    main.log_to(workdir)
    try:
        return status_of(lambda: validate.run(config, workdir))
    finally:
        stop_logging()
        sys.stderr.flush()


def refused(config, phase, status, capsys):
    """Runs what must be refused; returns what was said."""
    assert run(config, phase) == status
    said = capsys.readouterr().err
    assert said.count("error: ") == 1 and "Traceback" not in said
    return said


def report(workdir, split="train"):
    """The machine-readable report of `validate`."""
    return json.loads((workdir / "validation" / f"{split}.json").read_text())


def skipped(workdir):
    """Ids and codes that `prepare` left out."""
    path = workdir / "annotations" / "train_skipped.json"
    return [(row["annotation_id"], row["code"]) for row in json.loads(path.read_text())]


def prepared(workdir):
    """What `prepare` wrote for training."""
    return json.loads((workdir / "annotations" / "train.json").read_text())


def nothing_half_written(workdir):
    """No temporary file is left, and every JSON file is whole."""
    assert not toy.leftovers(workdir)
    for path in workdir.rglob("*.json"):
        json.loads(path.read_text())


def nothing_prepared(workdir):
    """A phase that was refused has left nothing that could be taken for its result."""
    nothing_half_written(workdir)
    assert not (workdir / "annotations").exists()
