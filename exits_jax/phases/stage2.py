"""Phase stage2: a detector trained on the pseudo masks, by a process of its own.

The detector is PyTorch and lives in another environment; what passes between the two
are files. See exits_jax/stage2.
"""

import importlib.resources
import logging
import signal
from pathlib import Path
from typing import Any

import ml_collections as mlc

from exits_jax.exit_status import FAILED, TRY_AGAIN, USAGE
from exits_jax.files.words import did_you_mean
from exits_jax.labeling.pseudo_masks import refuse_damaged
from exits_jax.run.child import ChildEnded, run_child
from exits_jax.run.identity import annotation_files, image_folders
from exits_jax.run.workdir import ConfigError, Workdir

_logger = logging.getLogger(__name__)


def run(config: mlc.ConfigDict, workdir: Workdir) -> None:
    """Trains `stage2.config` in `WORKDIR/stage2/NAME-SUPERVISION`, or goes on with it.

    It may be asked for again and again, with other values: each config and supervision
    has a folder of its own, which refuses other settings.

    Raises:
        ConfigError: If a field of `stage2` makes no sense, or there is no environment.
        FileNotFoundError: If there are no pseudo masks, or no split to evaluate on.
        ChildEnded: If the other process did not end well.
    """
    arguments = command(config, workdir)
    try:
        status = run_child(arguments)
    except OSError as error:
        raise ConfigError(
            f"stage2.python = {config.stage2.python!r} cannot be run: "
            f"{error.strerror}. Make the environment of stage 2 with `make stage2-env`."
        ) from error
    if status == -signal.SIGTERM:  # it came before the other process could handle it
        status = TRY_AGAIN
    if status in (FAILED, USAGE):  # of a crash, or of no Python at all
        _logger.warning("%s ended with %d", config.stage2.python, status)
    if status:
        raise ChildEnded(status)


def command(config: mlc.ConfigDict, workdir: Workdir) -> list[str]:
    """The command line that is run."""
    wanted = config.stage2
    model = str(mmdet_config(wanted.config))
    _check(config)
    workdir.require("prepare", "generate")
    sources, images = annotation_files(workdir), image_folders(workdir)
    masks = workdir / "pseudo_masks.json"
    if not masks.is_file():
        raise FileNotFoundError(f"There are no masks to train on: {masks} is gone.")
    if (workdir / "manifest.json").exists():
        refuse_damaged(workdir.path)
    if "val" not in sources:
        raise FileNotFoundError(
            "Stage 2 is evaluated on true masks of a validation split, and this run "
            "has none: set data.val."
        )
    flags: dict[str, Any] = {
        "train": masks,
        "images": images["train"],
        "val": sources["val"],
        "val-images": images["val"],
        "workdir": workdir / "stage2" / folder_name(wanted),
        "supervision": wanted.supervision,
        "masks": sources["train"] if wanted.supervision == "masks" else None,
        "dataset": wanted.dataset or config.data.name,
        "init": wanted.init or None,
        "epochs": wanted.epochs,
        "iterations": wanted.iterations,
        "seed": wanted.seed,
        "separated-ids": config.evaluate.separated_ids or None,
        "occluded-ids": config.evaluate.occluded_ids or None,
    }
    given = [f"--{key}={value}" for key, value in flags.items() if value is not None]
    given += [f"--set={option}" for option in wanted.options]
    given += ["--single-class"] * wanted.single_class
    return [wanted.python, "-m", "exits_jax.stage2", model, *given]


def mmdet_config(name: str) -> Path:
    """The file of an mmdet config: given by its path, or a shipped one by its name.

    Raises:
        ConfigError: If there is none; lists the shipped ones.
    """
    if Path(name).is_file():
        return Path(name)
    folder = Path(str(importlib.resources.files("exits_jax.configs"))) / "mmdet"
    shipped = {path.stem: path for path in sorted(folder.glob("*.py"))}
    if name in shipped:
        return shipped[name]
    hint = did_you_mean(Path(name).stem, shipped)
    raise ConfigError(
        f"stage2.config = {name!r}: there is no such mmdet config.{hint} Give a file, "
        f"or a shipped one: {', '.join(shipped)}."
    )


def folder_name(wanted: mlc.ConfigDict) -> str:
    """Where, below `WORKDIR/stage2`, what a section `stage2` asks for is done."""
    name = f"{Path(wanted.config).stem}-{wanted.supervision}"
    return f"{name}-single_class" if wanted.single_class else name


def _check(config: mlc.ConfigDict) -> None:
    wanted = config.stage2
    if wanted.supervision not in ("pseudo", "masks", "boxes"):
        raise ConfigError(
            f"stage2.supervision = {wanted.supervision!r}: known are pseudo, masks, "
            "boxes."
        )
    if not Path(wanted.python).is_file():
        raise ConfigError(
            f"stage2.python = {wanted.python!r}: no such file. Make the environment of "
            "stage 2 with `make stage2-env`."
        )
