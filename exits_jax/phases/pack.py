"""Phase pack: the prepared data set as shards, to be read instead of the image folder.

It comes after `prepare`, and only when it is asked for: no other phase needs it.
"""

import logging
import time

import ml_collections as mlc

from exits_jax.run.identity import image_folders
from exits_jax.run.workdir import ConfigError, Workdir
from exits_jax.shards.builder import BUILDERS
from exits_jax.shards.packing import Packed, PackError
from exits_jax.shards.source import Source

_logger = logging.getLogger(__name__)


def run(config: mlc.ConfigDict, workdir: Workdir) -> Packed:
    """Writes the data set of this workdir to `data.shards`, or what is missing there.

    Whether it is finished stands in that folder alone, which several work directories
    may share.

    Returns:
        What the folder holds now.

    Raises:
        ConfigError: If a field makes no sense, `prepare` is not finished, or the folder
            holds shards of another source; says which digests differ.
        AnnotationError: If an image of an object is missing.
        ShardError: If finished shards are damaged.
    """
    data = config.data
    if not data.shards:
        raise ConfigError(
            "data.shards is needed to pack: --config.data.shards=FOLDER, on a disk or "
            "in a bucket (gs://...)."
        )
    if data.name not in BUILDERS:
        known = ", ".join(BUILDERS)
        raise ConfigError(f"data.name = {data.name!r}: known are {known}.")
    workdir.require("prepare")
    workdir.refuse_damaged("prepare")
    sources = {
        split: Source(
            workdir / "annotations" / f"{split}.json",
            folder,
            bool(data.get("follow_links", False)),
        )
        for split, folder in image_folders(workdir).items()
    }
    start = time.monotonic()
    try:
        packed = BUILDERS[data.name](data_dir=data.shards, sources=sources).pack(
            shard_mb=data.shard_mb, num_workers=data.num_workers
        )
    except PackError as error:
        raise ConfigError(str(error)) from error
    seconds = time.monotonic() - start
    _logger.info(
        "%s: %d records in %d shards (%d there before), %.1f MiB, %.1f s",
        packed.folder,
        packed.records,
        packed.shards,
        packed.reused,
        packed.bytes / 2**20,
        seconds,
    )
    return packed
