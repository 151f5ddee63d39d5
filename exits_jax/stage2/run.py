"""Trains and judges one detector: from a config and files to `figures.json`."""

import contextlib
import json
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mmdet.utils import register_all_modules
from mmengine.config import Config, DictAction
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from exits_jax.export.files import write_json
from exits_jax.stage2.annotations import (
    CocoJson,
    check_image_files,
    check_same_classes,
    read_coco,
    write_box_masks,
    write_single_class,
)
from exits_jax.stage2.check import check_training_set
from exits_jax.stage2.errors import Stage2Error
from exits_jax.stage2.figures import coco_figures
from exits_jax.stage2.fill import batch_note, fill
from exits_jax.stage2.initial import check_initial_weights
from exits_jax.stage2.shims import allow_own_checkpoints, numpy_float

SUPERVISIONS = ("pseudo", "masks", "boxes")
FIGURES, TASK = "figures.json", "task.json"
_logger = logging.getLogger("exits_jax")


class Task(NamedTuple):
    """What to train on what."""

    config: Path  # an mmdet config
    train: Path  # pseudo masks, COCO JSON
    images: Path
    val: Path
    val_images: Path
    workdir: Path
    supervision: str = "pseudo"  # or "masks", "boxes"
    masks: Path | None = None  # true masks of the training split, for "masks"
    dataset: str = "custom"  # name for the table of results
    init: str | None = None  # local backbone weights, or "random"; None: the config's
    epochs: int | None = None
    iterations: int | None = None
    options: tuple[str, ...] = ()  # KEY=VALUE, over everything else
    separated_ids: Path | None = None
    occluded_ids: Path | None = None
    launcher: str = "none"
    seed: int = 0
    single_class: bool = False  # all classes as one, "object"


def run(
    task: Task, *, check: bool = True, check_only: bool = False, test_only: bool = False
) -> None:
    """Checks, trains (or goes on), tests; writes `figures.json` into the workdir.

    The workdir holds mmengine's checkpoints and logs, `task.json` (what was asked for),
    `config.py` (the complete config), `detections.segm.json` and `figures.json`.

    Args:
        task: What to train on what.
        check: Whether the files are checked first.
        check_only: End after the check.
        test_only: Judge the newest checkpoint instead of training.

    Raises:
        Stage2Error: If a file, folder or setting cannot be used; before any training.
        Stopped: After a SIGTERM; the same call goes on.
    """
    task = _resolve(task)
    record = _record(task)
    _refuse_other_task(task.workdir, record)
    if (task.workdir / FIGURES).is_file() and not (check_only or test_only):
        _logger.info("%s: done before", task.workdir)
        return
    train = read_coco(_training_file(task))
    task = task._replace(val=_validation_file(task))
    config = complete_config(task, train)
    federated = config.test_evaluator["type"] == "LVISMetric"
    if check:
        val = read_coco(task.val)
        check_same_classes(train, val)
        check_image_files(train, task.images, by_url=federated)
        check_image_files(val, task.val_images, by_url=federated)
        _logger.info("%s: %s", train.path, check_training_set(config, train).line())
        _logger.info("%s", check_initial_weights(config))
        note = batch_note(config, processes=get_dist_info()[1])
        if note:
            _logger.info("%s", note)
    if check_only:
        return
    if get_dist_info()[0] == 0:
        write_json(task.workdir / TASK, record)
        config.dump(task.workdir / "config.py")
    with numpy_float() if federated else contextlib.nullcontext():
        runner = _train_and_test(config, test_only)
    if get_dist_info()[0] == 0:
        _write_figures(task, runner.iter, federated)


def _train_and_test(config: Config, test_only: bool) -> Runner:
    runner = Runner.from_cfg(config)
    if test_only:
        runner.load_or_resume()
    else:
        runner.register_hook(_StopHook())
        runner.train()
    runner.test()
    return runner


def complete_config(task: Task, train: CocoJson) -> Config:
    """The config with files, classes and schedule of the task filled in.

    Raises:
        Stage2Error: If the config or an option cannot be read.
    """
    register_all_modules(init_default_scope=True)
    allow_own_checkpoints()
    try:
        config = Config.fromfile(task.config)
    except (OSError, SyntaxError, KeyError, ValueError) as error:
        raise Stage2Error(
            f"The config {task.config} cannot be read: {error}"
        ) from error
    config = fill(
        config,
        train=train.path,
        images=task.images,
        val=task.val,
        val_images=task.val_images,
        classes=train.classes,
        workdir=task.workdir,
        init=task.init,
        epochs=task.epochs,
        iterations=task.iterations,
    )
    config.launcher = task.launcher
    config.resume = True  # from the newest checkpoint, if there is one
    config.randomness = {"seed": task.seed}
    config.merge_from_dict(_options(task.options))
    return config


def _options(pairs: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE as mmengine reads them: numbers, words, [lists], None."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise Stage2Error(f"The option {pair!r} is not of the form KEY=VALUE.")
        found[key] = DictAction._parse_iterable(value)
    return found


def _resolve(task: Task) -> Task:
    """Absolute paths: mmengine joins relative ones to folders of its own."""
    if task.supervision not in SUPERVISIONS:
        raise Stage2Error(
            f"supervision = {task.supervision!r}: known are {', '.join(SUPERVISIONS)}."
        )
    if (task.masks is None) != (task.supervision != "masks"):
        raise Stage2Error(
            "The true masks (--masks=FILE) and --supervision=masks belong together: "
            "give both or none."
        )
    if task.epochs is not None and task.iterations is not None:
        raise Stage2Error("Give epochs or iterations, not both.")
    given = {
        name: value.absolute()
        for name, value in task._asdict().items()
        if isinstance(value, Path)
    }
    return task._replace(**given)


def _record(task: Task) -> dict[str, Any]:
    """What decides the result; a workdir belongs to one of these."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in task._asdict().items()
        if name not in ("workdir", "launcher")
    }


def _refuse_other_task(workdir: Path, record: dict[str, Any]) -> None:
    path = workdir / TASK
    if not path.is_file():
        return
    known = json.loads(path.read_text())
    wanted = json.loads(json.dumps(record))
    changed = sorted(
        name for name in known | wanted if known.get(name) != wanted.get(name)
    )
    if changed:
        lines = "\n  ".join(
            f"{name}: was {known.get(name)!r}, is {wanted.get(name)!r}"
            for name in changed
        )
        raise Stage2Error(
            f"{workdir} holds a training of something else:\n  {lines}\n"
            "Use another workdir, or remove this one."
        )


def _training_file(task: Task) -> Path:
    """The file as the detector reads it: with boxes as masks, or with one class."""
    path = task.masks or task.train
    if task.supervision == "boxes":
        path = _made(write_box_masks, path, task.workdir / "boxes.json")
    if task.single_class:
        path = _made(write_single_class, path, task.workdir / "train.json")
    return path


def _validation_file(task: Task) -> Path:
    if not task.single_class:
        return task.val
    return _made(write_single_class, task.val, task.workdir / "val.json")


def _made(write: Callable[[CocoJson, Path], None], source: Path, path: Path) -> Path:
    if get_dist_info()[0] == 0 or not path.is_file():
        write(read_coco(source), path)
    return path


def _write_figures(task: Task, iterations: int, is_federated: bool) -> None:
    found = coco_figures(
        task.val,
        task.workdir / "detections.segm.json",
        separated_ids=task.separated_ids,
        occluded_ids=task.occluded_ids,
        lvis=is_federated,
    )
    info = read_coco(task.train).content.get("info") or {}
    known = {
        "config": task.config.stem,
        "method": (info.get("exits_jax") or {}).get("method", "exits"),
        "supervision": task.supervision,
        "dataset": task.dataset,
        "train": str(task.masks or task.train),
        "val": str(task.val),
        "iterations": iterations,
        "seed": task.seed,
        "single_class": task.single_class,
    }
    write_json(task.workdir / FIGURES, known | found)
    named = [(name, found.get(name)) for name in ("AP", "AP50", "AP75")]
    line = "  ".join(f"{n} {v:.2f}" if v is not None else f"{n} -" for n, v in named)
    _logger.info("mask %s on %s  (%s)", line, task.val, task.workdir / FIGURES)


class Stopped(Exception):
    """Asked to stop (SIGTERM); the newest checkpoint is where the same call goes on."""


class _StopHook(Hook):
    """After a SIGTERM: saves at the end of the iteration, where that can be resumed.

    Epochs are resumed from their start only, so nothing is saved within one.
    """

    priority = "LOWEST"

    def before_train(self, runner: Runner) -> None:
        self._is_asked = False
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, *_: object) -> None:
        self._is_asked = True

    def after_train_iter(self, runner: Runner, *_: object, **__: object) -> None:
        if not self._is_asked:
            return
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            name = f"iter_{runner.iter + 1}.pth"
            runner.save_checkpoint(runner.work_dir, name, by_epoch=False)
            if get_dist_info()[0] == 0:
                path = Path(runner.work_dir)
                (path / "last_checkpoint").write_text(str(path / name))
        raise Stopped(f"Stopped after iteration {runner.iter + 1}.")
