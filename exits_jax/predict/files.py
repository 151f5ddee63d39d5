"""Masks for an annotation file: the phases of a run, in a folder that is removed."""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections as mlc

from exits_jax.configs import base
from exits_jax.exporters.folders import FolderError, check_replaceable
from exits_jax.files.seals import Damaged
from exits_jax.importers.write import report_path
from exits_jax.labeling.model_source import adopt_model
from exits_jax.phases import export, generate, prepare
from exits_jax.phases.imports import import_file
from exits_jax.run.phase_order import sections
from exits_jax.run.workdir import ConfigError, Workdir

_logger = logging.getLogger(__name__)


class Task(NamedTuple):
    """What to predict, with what, and where to write."""

    source: Path  # annotation file
    images: Path
    model: str
    out: Path
    kind: str = "coco"  # of the source; else one of `importers.kinds.KINDS`
    format: str = "coco"  # of what is written, see `exporters.formats`
    tolerance_px: float = 0.0
    max_skip_fraction: float = 0.5
    follow_links: bool = False
    given: Mapping[str, Any] = {}  # fields of section generate set over the model's


def predict_file(task: Task) -> None:
    """Writes the masks of all objects of a file, with what was left out beside them.

    Until they are there, everything is in the folder `OUT.unfinished`: the same call
    goes on from there, and masks are the same byte for byte.

    Raises:
        ConfigError: If something else is at `out`, or another call is at work on it, or
            an unfinished one was of other inputs.
        Exception: Of the phases prepare, generate and export; the unfinished folder
            stays.
    """
    _check_target(task)
    workdir = Workdir(task.out.with_name(f"{task.out.name}.unfinished"))
    workdir.take()
    try:
        config = _config(task, workdir)
        phases = {"prepare": prepare.run, "generate": generate.run}
        fields = {name: sections(config, name) for name in phases}
        with _unfinished(workdir.path):
            workdir.open(config, fields)
        with _unfinished(workdir.path, told_by=("--redo", "--workdir")):
            for run in phases.values():
                run(config, workdir)
            _deliver(task, config, workdir)
    finally:
        workdir.close()
    shutil.rmtree(workdir.path)


@contextlib.contextmanager
def _unfinished(folder: Path, *, told_by: tuple[str, ...] = ("",)) -> Iterator[None]:
    """Adds to faults of the block what to do about them here.

    Args:
        folder: The unfinished one.
        told_by: Flags of other commands, one of which the advice of a fault has if it
            speaks of what lies in the folder.
    """
    try:
        yield
    except (ConfigError, Damaged) as error:
        if not any(flag in str(error) for flag in told_by):
            raise
        raise type(error)(
            f"{error}\nHere, {folder} is what an earlier call left unfinished: repeat "
            "that one as it was, or remove the folder to begin anew."
        ) from error


def _check_target(task: Task) -> None:
    if not task.source.exists():
        raise FileNotFoundError(f"There is no annotation file {task.source}.")
    if task.format != "coco":
        try:
            check_replaceable(task.out)
        except FolderError as error:
            raise ConfigError(f"--out: {error}") from error
        return
    if task.out.suffix != ".json" or task.out.is_dir():
        raise ConfigError(
            f"--out={task.out}: expected the name of a .json file; other formats, "
            "--format=..., are folders."
        )
    if task.out.resolve() == task.source.resolve():
        raise ConfigError(f"--out={task.out} would overwrite the annotations.")


def _config(task: Task, workdir: Workdir) -> mlc.ConfigDict:
    """A run that has nothing to train; imports the annotations first, if need be."""
    config = base.get_config()
    config.workdir = str(workdir.path)
    config.data.images = str(task.images)
    config.data.max_skip_fraction = task.max_skip_fraction
    config.data.follow_links = task.follow_links
    config.data.train = str(task.source)
    config.generate.splits = ("train",)
    config.generate.model = task.model
    config.export.kind = task.format
    config.export.out = str(task.out)
    config.export.tolerance_px = task.tolerance_px
    export.check_export(config)  # before any mask is made
    if task.kind != "coco":
        config.imports.kind = task.kind
        config.imports.source = str(task.source)
        imported = workdir / "imported.json"
        if not workdir.is_finished("prepare"):
            import_file(config, imported)
        config.data.train = str(imported)
    config.update_from_flattened_dict(dict(task.given))
    adopt_model(config, task.given)
    return config


def _deliver(task: Task, config: mlc.ConfigDict, workdir: Workdir) -> None:
    """Puts what was made in its place, the masks last."""
    out = task.out
    if task.format != "coco":
        export.run(config, workdir)
    beside = {
        report_path(workdir / "imported.json"): "import_report.json",
        workdir / "skipped.json": "skipped.json",
    }
    if task.format == "coco":
        beside[workdir / "pseudo_masks.json"] = ""
    for path, name in beside.items():
        target = out.with_name(f"{out.stem}.{name}") if name else out
        if path.exists():
            os.replace(path, target)
            _logger.info("written: %s", target)
