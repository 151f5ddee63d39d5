"""What has to be run for a row: one command after the other, each in its folder."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from exits_jax.ablations.rows import Row
from exits_jax.configs.ablations import TABLES
from exits_jax.files.json_files import write_json

MARKER = "ablation.json"
# What a run keeps for itself.
_OWN = (".lock", "compilation_cache", "config.json", "environment.json", "log.txt")
_LEFT_BEHIND = (*_OWN, MARKER)
_LINKED = ("checkpoints", "scenes", "voc")


class Model(NamedTuple):
    """The model of stage 2, and all that is set for it."""

    config: str  # path of an mmdet config
    name: str  # of its folder in a work directory
    digest: str  # of the section `stage2`


class Settings(NamedTuple):
    """What all rows have in common."""

    out: Path
    overrides: tuple[str, ...]  # flags --config.FIELD=VALUE
    python: str  # of stage 1
    stage2: Mapping[str, Model]  # by schedule; empty: labels alone


class Step(NamedTuple):
    """One command."""

    key: str  # "prepare", "pretrain", "warmup", "labels" or "stage2/NAME"
    title: str
    folder: Path  # its work directory
    source: Path | None  # a work directory whose finished phases `folder` starts with
    command: list[str]
    log: Path
    digest: str  # of what decides its results
    makes: Path  # there when it has been done


def steps_of(row: Row, table: str, settings: Settings) -> list[Step]:
    """The commands of a row in turn: phases it shares with others come first."""
    steps, source = [], None
    for phase, digest in row.shared:
        folder = settings.out / "shared" / f"{phase}-{digest}"
        steps.append(
            Step(
                phase,
                f"shared {phase} {digest}",
                folder,
                source,
                _command(row, settings, folder, f"--phase={phase}"),
                folder.with_name(f"{folder.name}.log"),
                digest,
                folder / "phases" / f"{phase}.json",
            )
        )
        source = folder
    folder = workdir_of(row, settings)
    steps.append(
        Step(
            "labels",
            f"{row.owner}: labels",
            folder,
            source,
            _command(row, settings, folder),
            folder.with_name(f"{folder.name}.log"),
            row.labels,
            folder / "evaluation.json",
        )
    )
    if settings.stage2:
        steps.append(_stage2(row, table, settings))
    return steps


def workdir_of(row: Row, settings: Settings) -> Path:
    """The work directory of a row, or of the row that it is equal to."""
    return settings.out / row.owner


def is_done(step: Step) -> bool:
    """Whether it ran to its end with the same configuration."""
    return _marks(step.folder).get(step.key) == step.digest and step.makes.exists()


def mark_done(step: Step) -> None:
    """Notes that it has."""
    marks = _marks(step.folder) | {step.key: step.digest}
    write_json(step.folder / MARKER, marks)


def fill(step: Step) -> None:
    """Makes the folder of a step, with all that the phases of its source left.

    It appears whole, and one that is there stays as it is. Checkpoints and scenes,
    which are never written to again, are linked where the file system can: those of the
    paper's models take gigabytes.
    """
    if step.source is None or step.folder.exists():
        return
    draft = step.folder.with_name(f".{step.folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for path in sorted(step.source.iterdir()):
        if path.name in _LEFT_BEHIND:
            continue
        if path.is_dir():
            copy = _link if path.name in _LINKED else shutil.copy2
            shutil.copytree(path, draft / path.name, copy_function=copy)
        else:
            shutil.copy2(path, draft / path.name)
    draft.rename(step.folder)


def _stage2(row: Row, table: str, settings: Settings) -> Step:
    model = settings.stage2[TABLES[table].schedule]
    folder = workdir_of(row, settings)
    flags = (f"--config.stage2.config={model.config}", "--phase=stage2")
    return Step(
        f"stage2/{model.name}",
        f"{row.owner}: stage 2, {model.name}",
        folder,
        None,
        _command(row, settings, folder, *flags),
        folder.with_name(f"{folder.name}.{model.name}.log"),
        f"{row.labels}-{model.digest}",
        folder / "stage2" / model.name / "figures.json",
    )


def _command(row: Row, settings: Settings, folder: Path, *more: str) -> list[str]:
    return [
        settings.python,
        "-m",
        "exits_jax.main",
        f"--config=ablations:{row.spec}",
        f"--workdir={folder}",
        *settings.overrides,
        *more,
    ]


def _marks(folder: Path) -> dict[str, str]:
    path = folder / MARKER
    return json.loads(path.read_text()) if path.exists() else {}


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
