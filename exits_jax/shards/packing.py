"""The steps of packing: claim a folder, write its shards, publish the whole."""

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from etils import epath

from exits_jax.files.locks import InUse, take_lock
from exits_jax.shards.features import Schema
from exits_jax.shards.manifest import INFO, MANIFEST, Manifest
from exits_jax.shards.source import Split
from exits_jax.shards.storage import ShardError, is_remote, to_json, write_bytes
from exits_jax.shards.writer import (
    BUILDING,
    ShardFile,
    ShardJob,
    finished_shard,
    write_shards,
)

_logger = logging.getLogger(__name__)

Plan = dict[str, list[tuple[str, range]]]  # name and images of a split's shards
Shards = dict[str, list[ShardFile]]  # of each split, in order


class PackError(ValueError):
    """A data set that cannot be packed here; the message says what differs."""


class Packed(NamedTuple):
    """What packing made or found."""

    folder: str
    records: int
    shards: int
    bytes: int  # of the shards
    reused: int  # shards that were there already


@contextlib.contextmanager
def alone(folder: epath.Path) -> Iterator[None]:
    """Keeps a second process from packing into a local folder meanwhile.

    Raises:
        PackError: If one is at work there.
    """
    if is_remote(folder):
        yield  # object stores have no locks
        return
    notes = Path(os.fspath(folder / BUILDING))
    notes.mkdir(parents=True, exist_ok=True)
    try:
        lock = take_lock(notes / "lock")
    except InUse as error:
        raise PackError(
            f"Another process is packing into {os.fspath(folder)} ({error.owner}). "
            "Wait for its end, then give the same command again."
        ) from None
    with lock:
        yield


def claim(folder: epath.Path, source: dict[str, Any]) -> None:
    """Notes what is packed into a folder, before its first shard.

    Raises:
        PackError: If something else is being packed there.
        ShardError: If the note of an earlier run cannot be read.
    """
    note = folder / BUILDING / "source.json"
    if not note.exists():
        write_bytes(note, to_json(source))
        return
    try:
        found = json.loads(note.read_text())
        found = {"digest": found["digest"], "parts": dict(found["parts"])}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ShardError(
            f"{os.fspath(note)} is no note of what is packed there: {error}. Remove "
            f"{os.fspath(folder)} and pack again."
        ) from error
    refuse_other(folder, found, source)


def refuse_other(
    folder: epath.Path, found: dict[str, Any], wanted: dict[str, Any]
) -> None:
    """Raises PackError, with the digests, if a folder holds another source's shards."""
    if found["digest"] == wanted["digest"]:
        return
    there, here = found["parts"], wanted["parts"]
    lines = "\n  ".join(
        f"{name}: {there.get(name, 'none')} there, {here.get(name, 'none')} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    )
    raise PackError(
        f"{os.fspath(folder)} holds shards of another source, with the digest "
        f"{found['digest']}; this one has {wanted['digest']}:\n  {lines}\n"
        "Use another data.shards, or remove that folder."
    )


def write_missing(
    folder: epath.Path,
    splits: Mapping[str, Split],
    plan: Plan,
    schema: Schema,
    digest: str,
    num_workers: int,
) -> tuple[Shards, int]:
    """Writes the shards that no earlier run has finished.

    Args:
        folder: Where the data set lies.
        splits: What is packed.
        plan: Its shards.
        schema: Of its records.
        digest: Of its source.
        num_workers: As in `writer.write_shards`.

    Returns:
        All shards in order, and how many of them were there already.
    """
    files = [file for listed in plan.values() for file, _ in listed]
    found = {file: finished_shard(folder, file, digest) for file in files}
    done = {file: shard for file, shard in found.items() if shard is not None}
    num_reused = len(done)
    if num_reused:
        _logger.info("%d of %d shards were packed before", num_reused, len(files))

    def jobs() -> Iterator[ShardJob]:
        for split, listed in plan.items():
            content = splits[split]
            for file, positions in listed:
                if found[file] is not None:
                    continue
                images = [content.images[position] for position in positions]
                objects = [content.objects(image) for image in images]
                yield ShardJob(os.fspath(folder), file, digest, schema, images, objects)

    for shard in write_shards(jobs(), num_workers):
        done[shard.file] = shard
        _logger.info("%s: %d of %d shards", shard.file, len(done), len(files))
    shards = {
        split: [done[file] for file, _ in listed] for split, listed in plan.items()
    }
    return shards, num_reused


def publish(
    folder: epath.Path,
    info: tfds.core.DatasetInfo,
    splits: Mapping[str, Split],
    shards: Shards,
    source: dict[str, Any],
) -> None:
    """Writes all that belongs to the shards; the folder is none to read before the end.

    Args:
        folder: Where the shards lie.
        info: TFDS's description of the data set.
        splits: What was packed.
        shards: All of them.
        source: Digests, as `source.describe` gives them.
    """
    files: dict[str, bytes] = {}
    for split, content in splits.items():
        names = [image.name for image in content.images]
        files[f"annotations/{split}.json"] = content.annotations
        files[f"annotations/{split}_names.json"] = to_json(names)
        files[f"annotations/{split}_left_out.json"] = to_json(content.left_out)
    with tempfile.TemporaryDirectory() as local:
        info.write_to_directory(local)
        files |= {path.name: path.read_bytes() for path in Path(local).iterdir()}
    sums = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in files.items()
    }
    manifest = Manifest(info.name, str(info.version), source, shards, sums)
    opener = files.pop(INFO)
    for name, data in files.items():
        write_bytes(folder / name, data)
    write_bytes(folder / MANIFEST, to_json(manifest.to_dict()))
    write_bytes(folder / INFO, opener)


def tidy(folder: epath.Path) -> None:
    """Removes the notes of a data set that is finished, and what a kill left there."""
    if (folder / BUILDING).exists():
        (folder / BUILDING).rmtree()


def summary(folder: epath.Path, shards: Shards, num_reused: int) -> Packed:
    """Counts what a folder holds."""
    listed = [shard for split in shards.values() for shard in split]
    return Packed(
        os.fspath(folder),
        sum(shard.records for shard in listed),
        len(listed),
        sum(shard.bytes for shard in listed),
        num_reused,
    )
