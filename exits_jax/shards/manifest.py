"""The files of a finished data set, and whether they are what they were.

`dataset_info.json` is what TFDS needs to open a folder. It is written last, so that a
half-written folder is none that TFDS or this package reads.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from array_record.python import array_record_module  # pyright: ignore
from etils import epath

from exits_jax.shards.storage import (
    ShardError,
    ends_sha256_of,
    is_remote,
    is_safe,
    sha256_of,
    size_of,
)
from exits_jax.shards.writer import ShardFile

MANIFEST = "manifest.json"
INFO = "dataset_info.json"


class Manifest(NamedTuple):
    """What a finished data set consists of."""

    name: str
    version: str
    source: dict[str, Any]  # as `source.describe` gives it
    shards: dict[str, list[ShardFile]]  # of each split, in order
    files: dict[str, dict[str, Any]]  # all others: sha256 and bytes by name

    def to_dict(self) -> dict[str, Any]:
        """The manifest as it is written."""
        shards = {
            split: [shard._asdict() for shard in listed]
            for split, listed in self.shards.items()
        }
        return {**self._asdict(), "shards": shards}

    def sums(self) -> dict[str, tuple[str, int]]:
        """The sha256 and the size of every file but the manifest itself."""
        files = {name: (v["sha256"], v["bytes"]) for name, v in self.files.items()}
        for shard in (shard for listed in self.shards.values() for shard in listed):
            files[shard.file] = shard.sha256, shard.bytes
        return files

    def small(self) -> set[str]:
        """Files whose bytes are compared before they are read; annotations are not."""
        return self.files.keys() - {f"annotations/{each}.json" for each in self.shards}


def read_manifest(folder: epath.Path) -> Manifest:
    """The manifest of a finished data set.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ShardError: If the folder is not finished, or its manifest is none.
    """
    where = os.fspath(folder)
    if not folder.exists():
        raise FileNotFoundError(f"There is no packed data set in {where}.")
    if not (folder / INFO).exists():
        raise ShardError(
            f"{where} has no {INFO}: packing has not been finished there. Run "
            "`exits-jax pack` with the same configuration to go on."
        )
    if not (folder / MANIFEST).exists():
        raise ShardError(f"{where} has no {MANIFEST}: exits_jax did not pack it.")
    try:
        values = json.loads((folder / MANIFEST).read_text())
        shards = {
            split: [ShardFile(**shard) for shard in listed]
            for split, listed in values.pop("shards").items()
        }
        manifest = Manifest(shards=shards, **values)
        if not isinstance(manifest.source["parts"], dict):
            raise ValueError("the parts of its source are no object")
        if not (shards and all(shards.values())):
            raise ValueError("it has a split without shards, or none")
        names = [manifest.name, manifest.version, manifest.source["digest"]]
        unsafe = [name for name in (*names, *manifest.sums()) if not is_safe(name)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ShardError(
            f"{where}/{MANIFEST} is not a manifest of packed shards: {error}. "
            f"{again(folder)}"
        ) from error
    if unsafe:
        raise ShardError(
            f"{where}/{MANIFEST} has the unsafe file name {unsafe[0]!a:.200}; expected "
            "names of files in its folder."
        )
    return manifest


def again(folder: str | os.PathLike[str]) -> str:
    """What to do about a folder with damaged files."""
    return (
        f"Remove {os.fspath(folder)}: a copy in data.shard_cache is then made anew; "
        "any other has to be copied or packed again."
    )


def verify(folder: epath.Path, manifest: Manifest, *, full: bool) -> None:
    """Checks the files of a data set against its manifest.

    Sizes are always compared, every byte of small files, and of each local shard both
    ends and the number of records that it says it holds; `full` also reads every byte
    of shards and annotations.

    Raises:
        ShardError: With every file that is missing or differs.
    """
    faults: list[str] = []
    small = manifest.small()
    for name, (sha256, size) in manifest.sums().items():
        try:
            found = size_of(folder / name)
        except ShardError as error:
            faults.append(str(error))
            continue
        where = os.fspath(folder / name)
        if found != size:
            faults.append(f"{where} has {found} bytes; its manifest says {size}.")
        elif full or name in small:
            if (digest := sha256_of(folder / name)) != sha256:
                faults.append(
                    f"{where} has the sha256 {digest}; its manifest says {sha256}: it "
                    "is damaged or was changed."
                )
    if not faults and not is_remote(folder):
        faults = _wrong_shards(folder, manifest.shards)
    if faults:
        raise ShardError("\n".join([*faults, again(folder)]))


def _wrong_shards(
    folder: epath.Path, shards: Mapping[str, list[ShardFile]]
) -> list[str]:
    faults = []
    for shard in (shard for listed in shards.values() for shard in listed):
        where = os.fspath(folder / shard.file)
        try:
            reader = array_record_module.ArrayRecordReader(where)
            count = reader.num_records()
            reader.close()
        except Exception as error:  # the reader has no type of its own
            faults.append(f"{where} is damaged: it is no ArrayRecord file ({error}).")
            continue
        if count != shard.records:
            faults.append(
                f"{where} holds {count} records; its manifest says {shard.records}."
            )
        elif shard.ends_sha256 not in ("", ends_sha256_of(Path(where))):
            faults.append(
                f"{where} is damaged or of another data set: it is not the shard that "
                "its manifest tells of."
            )
    return faults
