"""Trains and judges one detector: from a config and files to `figures.json`."""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mmdet.utils import register_all_modules
from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from exits_jax.files.json_files import write_json
from exits_jax.stage2.errors import Stage2Error
from exits_jax.stage2.inputs.annotations import (
    CocoJson,
    check_image_files,
    check_masks,
    check_same_classes,
    read_coco,
)
from exits_jax.stage2.inputs.check import check_model, check_training_set
from exits_jax.stage2.inputs.derived import write_box_masks, write_single_class
from exits_jax.stage2.measures.figures import check_federated, coco_figures
from exits_jax.stage2.measures.recall import check_list
from exits_jax.stage2.mmdet_config.fill import DETECTIONS, batch_note, fill
from exits_jax.stage2.mmdet_config.initial import check_initial_weights
from exits_jax.stage2.processes import join, leave, place
from exits_jax.stage2.shims import allow_own_checkpoints, numpy_float
from exits_jax.stage2.stop import StopHook
from exits_jax.stage2.workdir import (
    FIGURES,
    SO_FAR,
    TASK,
    claimed,
    newest_checkpoint,
    refuse_other_task,
)

SUPERVISIONS = ("pseudo", "masks", "boxes")
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
    `config.py` (the complete config), `detections.segm.json` and `figures.json`; after
    `test_only` before the end of the training `figures_so_far.json`.

    Args:
        task: What to train on what.
        check: Whether the files are checked first.
        check_only: End after the check.
        test_only: Judge the newest checkpoint instead of training.

    Raises:
        Stage2Error: If a file, folder or setting cannot be used; before any training.
        Stopped: After a SIGTERM in the training; the same call goes on.
    """
    task = _resolve(task)
    number, total = place(task.launcher)
    with claimed(task.workdir) if number == 0 else contextlib.nullcontext():
        record = _record(task)
        refuse_other_task(task.workdir, record)
        if (task.workdir / FIGURES).is_file() and not (check_only or test_only):
            _logger.info("%s: done before", task.workdir)
            return
        files = _with_derived_files(task)
        train = read_coco(files.train)
        config = complete_config(files, train)
        if check:
            _check(files, train, config)
        if check_only:
            return
        note = batch_note(config, processes=total)
        if number == 0:
            if note:
                _logger.info("%s", note)
            write_json(task.workdir / TASK, record)
            config.dump(task.workdir / "config.py")
        _start_from(config, task.workdir, test_only)
        join(config)
        with numpy_float() if _is_federated(config) else contextlib.nullcontext():
            iterations, is_end = _train_and_test(config, test_only)
        leave()
        if number == 0:
            # After --test-only on the way, the training still has to go on.
            path = task.workdir / (FIGURES if is_end else SO_FAR)
            _write_figures(task, files.val, iterations, config, path)


def _check(task: Task, train: CocoJson, config: Config) -> None:
    """All that would end a training after hours, or spoil it."""
    val = read_coco(task.val)
    check_same_classes(train, val)
    federated = _is_federated(config)
    if federated and task.single_class:
        raise Stage2Error(
            "--single-class: of a class that is not annotated on all images, as in "
            f"{task.config.name}, nothing is known about the others."
        )
    if federated:
        check_federated(val)
    for coco, images in ((train, task.images), (val, task.val_images)):
        check_image_files(coco, images, by_url=federated)
        check_masks(coco)
    for path in (task.separated_ids, task.occluded_ids):
        if path:
            check_list(path)
    check_model(config)
    _logger.info("%s: %s", train.path, check_training_set(config, train).line())
    _logger.info("%s", check_initial_weights(config))


def _is_federated(config: Config) -> bool:
    return config.test_evaluator["type"] == "LVISMetric"


def _start_from(config: Config, workdir: Path, test_only: bool) -> None:
    """Goes on from the newest checkpoint, or starts from what the config loads."""
    newest = newest_checkpoint(workdir)
    if test_only and newest is None:
        raise Stage2Error(f"{workdir} holds no checkpoint to evaluate.")
    if newest and (test_only or config.resume):
        # mmengine would take a config's `load_from` for the checkpoint to go on from.
        config.load_from, config.resume = str(newest), True
    else:
        config.resume = False


def _train_and_test(config: Config, test_only: bool) -> tuple[int, bool]:
    """The iteration that was evaluated, and whether the training has ended."""
    runner = Runner.from_cfg(config)
    if test_only:
        runner.load_or_resume()
    else:
        runner.register_hook(StopHook())
        runner.train()
    runner.test()
    return runner.iter, not test_only or runner.iter >= runner.max_iters


def complete_config(task: Task, train: CocoJson) -> Config:
    """The config with files, classes and schedule of the task filled in.

    Raises:
        Stage2Error: If the config or an option cannot be read.
    """
    register_all_modules(init_default_scope=True)
    allow_own_checkpoints()
    try:
        config = Config.fromfile(task.config)
    except Exception as error:  # a config is a program
        raise Stage2Error(
            f"The config {task.config} cannot be read: {type(error).__name__}: {error}"
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
    for key, value in _options(task.options).items():
        _set(config, key, value)
    return config


def _set(config: Config, key: str, value: Any) -> None:
    if config.get(key.partition(".")[0]) is None:
        _logger.info("--set: the config has no %s yet", key.partition(".")[0])
    try:
        config.merge_from_dict({key: value})
    except (AssertionError, AttributeError, KeyError, TypeError) as error:
        raise Stage2Error(f"The option {key} cannot be set: {error}") from error


def _options(pairs: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE as mmengine reads them: numbers, words, [lists], None."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise Stage2Error(f"The option {pair!r} is not of the form KEY=VALUE.")
        try:
            found[key] = DictAction._parse_iterable(value)
        except (AssertionError, IndexError) as error:
            raise Stage2Error(f"The option {pair!r} cannot be read: {error}") from error
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


def _with_derived_files(task: Task) -> Task:
    """Names the files as the detector reads them: boxes as masks, or one class."""

    def made(write: Callable[[CocoJson, Path], None], source: Path, name: str) -> Path:
        path = task.workdir / name
        if place(task.launcher)[0] == 0 or not path.is_file():
            write(read_coco(source), path)
        return path

    train, val = task.masks or task.train, task.val
    if task.supervision == "boxes":
        train = made(write_box_masks, train, "boxes.json")
    if task.single_class:
        train = made(write_single_class, train, "train.json")
        val = made(write_single_class, val, "val.json")
    return task._replace(train=train, masks=None, val=val)


def _method(coco: CocoJson) -> str:
    """What made the masks of a file, as stage 1 notes it."""
    info: Any = coco.content.get("info")
    ours = info.get("exits_jax") if isinstance(info, dict) else None
    method = ours.get("method") if isinstance(ours, dict) else None
    return method if isinstance(method, str) else "exits"


def _write_figures(
    task: Task, val: Path, iterations: int, config: Config, path: Path
) -> None:
    found = coco_figures(
        val,
        task.workdir / f"{DETECTIONS}.segm.json",
        separated_ids=task.separated_ids,
        occluded_ids=task.occluded_ids,
        lvis=_is_federated(config),
    )
    known = {
        "config": task.config.stem,
        "method": _method(read_coco(task.train)),
        "supervision": task.supervision,
        "dataset": task.dataset,
        "train": str(task.masks or task.train),
        "val": str(task.val),
        "iterations": iterations,
        "seed": task.seed,
        "single_class": task.single_class,
        "init": task.init,
        "options": list(task.options),
    }
    write_json(path, known | found)
    shown = (f"{n} {found[n] or 0.0:.2f}" for n in ("AP", "AP50", "AP75"))
    _logger.info("mask %s on %s  (%s)", "  ".join(shown), task.val, path)
