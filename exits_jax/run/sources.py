"""Where the annotations and images of a run come from."""

import logging
from functools import partial
from pathlib import Path
from typing import NamedTuple

import ml_collections as mlc

from exits_jax.data.annotations import PointsOf
from exits_jax.data.click_noise import ClickNoise
from exits_jax.data.extreme_points import points_of_record
from exits_jax.data.records import AnnotationError, TooManySkipped
from exits_jax.datasets.scenes import draw_scenes
from exits_jax.datasets.voc import VocSource, summary_line, voc_source
from exits_jax.files.json_files import write_json
from exits_jax.run.workdir import ConfigError
from exits_jax.train.progress import SHORT_S, Progress

_logger = logging.getLogger(__name__)


class Source(NamedTuple):
    """One split: a COCO instances JSON and the folder of its images."""

    annotations: Path
    images: Path


def find_sources(config: mlc.ConfigDict, folder: Path) -> dict[str, Source]:
    """The splits that the configuration names: "train" and, where there is one, "val".

    Args:
        config: The configuration.
        folder: Where scenes are drawn and VOC's files converted, if that is asked for.

    Raises:
        ConfigError: If it names nothing.
        AnnotationError: If VOC's or SBD's files have faults that are not allowed.
    """
    data = config.data
    if data.scenes.num_train:
        return _scenes(config, folder / "scenes")
    if not data.voc.devkit or data.train:
        return _files(config)
    if data.val:
        raise ConfigError(
            "data.val is set beside data.voc.devkit, which has a split of its own: set "
            "data.train too, or neither."
        )
    return _voc(config, folder / "voc")


def point_rule(config: mlc.ConfigDict) -> PointsOf:
    """How extreme points are taken from a mask."""
    noise = config.data.noise
    return partial(
        points_of_record,
        mode=config.data.points,
        noise=ClickNoise(noise.kind, noise.amount, config.seed),
    )


def _scenes(config: mlc.ConfigDict, folder: Path) -> dict[str, Source]:
    scenes = config.data.scenes
    total = scenes.num_train + scenes.num_val
    with Progress("drawing", total=total, unit="scene", delay_s=SHORT_S) as progress:
        draw_scenes(
            folder,
            num_train=scenes.num_train,
            num_val=scenes.num_val,
            seed=config.seed,
            on_scene=progress.advance,
        )
    splits = ("train", "val") if scenes.num_val else ("train",)
    return {split: Source(folder / f"{split}.json", folder / split) for split in splits}


def _files(config: mlc.ConfigDict) -> dict[str, Source]:
    data = config.data
    if not data.train or not data.images:
        raise ConfigError(
            "data.train (a COCO instances JSON) and data.images (its image folder) are "
            "needed: --config.data.train=FILE --config.data.images=FOLDER"
        )
    splits = {"train": Source(Path(data.train), Path(data.images))}
    if data.val:
        splits["val"] = Source(Path(data.val), Path(data.val_images or data.images))
    return splits


def _voc(config: mlc.ConfigDict, folder: Path) -> dict[str, Source]:
    """VOC's and SBD's own files, as COCO instances JSONs in a folder."""
    devkit, sbd = Path(config.data.voc.devkit), config.data.voc.sbd
    wanted = {"train": "train_aug" if sbd else "train", "val": "val"}
    made = {
        split: voc_source(devkit, name, sbd=Path(sbd) if sbd else None)
        for split, name in wanted.items()
    }
    for found in made.values():
        _refuse_faults(config, found)
    splits = {}
    for split, found in made.items():
        path = folder / f"{found.split}.json"
        write_json(path, found.source)
        faults = [problem._asdict() for problem in found.problems]
        write_json(folder / f"{found.split}_problems.json", faults)
        splits[split] = Source(path, found.image_root)
    return splits


def _refuse_faults(config: mlc.ConfigDict, found: VocSource) -> None:
    _logger.info("%s", summary_line(found))
    for warning in found.warnings:
        if not warning.startswith(found.split):  # that is what the summary says
            _logger.warning("  %s", warning)
    for problem in found.problems[:5]:
        _logger.warning("  left out: %s %s", problem.code, problem.message)
    faults, usable = len(found.problems), len(found.source["annotations"])
    limit = config.data.max_skip_fraction
    text = f"{found.split} of VOC has {faults} faults, the first: "
    if faults and config.data.on_bad == "error":
        raise AnnotationError(
            f"{text}{found.problems[0].message} Set --config.data.on_bad=skip to go on "
            "without what they concern.",
            found.problems,
        )
    if faults > limit * (faults + usable):
        raise TooManySkipped(
            f"{text}{found.problems[0].message} Beside {usable} usable instances that "
            f"is more than data.max_skip_fraction = {limit:g} allows.",
            found.problems,
        )
