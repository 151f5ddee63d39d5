"""What `prepare` let through, and what it left out."""

import os
from pathlib import Path

import ml_collections as mlc

from exits_jax.data.batches import trainable
from exits_jax.data.images import ImageError
from exits_jax.data.records import Problem
from exits_jax.data.table import Instances
from exits_jax.files.seals import Damaged, read_json
from exits_jax.files.words import how_to_install
from exits_jax.run.identity import image_folders, refuse_other_images
from exits_jax.run.workdir import ConfigError, Workdir


def columns_folder(workdir: Workdir, split: str) -> Path:
    """Where the objects of a split stand as columns."""
    return workdir / "annotations" / f"{split}_columns"


def files_of(workdir: Workdir, split: str) -> list[Path]:
    """What `prepare` wrote of a split and later phases read."""
    folder = workdir / "annotations"
    found = [folder / f"{split}{end}.json" for end in ("", "_names", "_skipped")]
    found = [path for path in found if path.exists()]
    return found + sorted(columns_folder(workdir, split).glob("*.npy"))


def read_problems(workdir: Workdir, split: str) -> list[Problem]:
    """What `prepare` left out of a split.

    Raises:
        Damaged: If its list is not the one that `prepare` wrote.
    """
    workdir.refuse_damaged("prepare", f"annotations/{split}_skipped.json")
    path = workdir / "annotations" / f"{split}_skipped.json"
    try:
        return [Problem(**row) for row in read_json(path, list)]
    except TypeError as error:
        raise Damaged(f"{path} is damaged: {error}.") from None


def instances(config: mlc.ConfigDict, workdir: Workdir, split: str) -> Instances:
    """The objects that `prepare` let through, crowds left out.

    Raises:
        ConfigError: If the columns that `prepare` wrote are gone.
        Damaged: If they are not what it wrote.
        ShardError: If `data.shards` cannot be read.
    """
    folder = columns_folder(workdir, split)
    workdir.refuse_damaged("prepare", f"annotations/{folder.name}")
    try:
        found = Instances.open(folder)
    except FileNotFoundError as error:
        raise ConfigError(f"{error} Prepare again with --redo=prepare.") from error
    except (KeyError, ValueError, EOFError) as error:  # without seals
        raise Damaged(
            f"{folder} is damaged: {error}. Prepare again with --redo=prepare."
        ) from error
    return _with_shards(config, workdir, split, found.select(~found.is_crowd))


def training_instances(config: mlc.ConfigDict, workdir: Workdir) -> Instances:
    """The objects large enough to learn from.

    Raises:
        ConfigError: If there are none.
    """
    everything = instances(config, workdir, "train")
    chosen = trainable(
        everything, min_area=config.data.min_area_px, min_side=config.data.min_side_px
    )
    if not chosen:
        raise ConfigError(
            f"None of the {len(everything)} objects in {config.data.train} has a box "
            f"of more than data.min_area_px = {config.data.min_area_px} px."
        )
    return chosen


def _with_shards(
    config: mlc.ConfigDict, workdir: Workdir, split: str, found: Instances
) -> Instances:
    """The objects with the pixels of a packed data set, if there is one to read."""
    data = config.data
    if not data.shards:
        return found
    try:  # TFDS is an extra, and slow to load
        from exits_jax.shards.builder import BUILDERS
        from exits_jax.shards.reader import ShardedImages, attach
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("exits_jax"):
            raise
        raise ConfigError(
            f"data.shards needs the package {error.name}. {how_to_install('shards')}"
        ) from error
    packed = BUILDERS[data.name].folder_in(data.shards)
    folder = str(image_folders(workdir)[split])
    try:
        images = ShardedImages(packed, split, cache=data.shard_cache or None)
        attached = attach(found, images, folder)
        packed_file = lambda path: images.read_bytes(
            images.position(os.path.relpath(path, folder))
        )
        refuse_other_images(workdir, split, packed_file, images.folder)
        return attached
    except (KeyError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ConfigError(f"data.shards: {error.args[0]}") from error
