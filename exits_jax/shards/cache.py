"""A local copy of a data set in a bucket, made once and checked as it arrives."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from etils import epath

from exits_jax.shards.manifest import INFO, MANIFEST, Manifest
from exits_jax.shards.storage import copy_checked, sha256_of, write_bytes

_NUM_THREADS = 8


def local_copy(source: epath.Path, manifest: Manifest, cache: Path) -> epath.Path:
    """Copies the files of a data set that a cache does not hold yet.

    A file appears in the cache only once its sha256 is that of the manifest, so that
    copies may be interrupted, and made by several processes side by side.

    Args:
        source: The version folder.
        manifest: Its manifest.
        cache: A local folder; each data set has a folder of its own in it.

    Returns:
        The folder of the copy.

    Raises:
        ShardError: If a file arrives with other bytes than the manifest says.
        FileNotFoundError: If a file is missing in the source.
    """
    digest = manifest.source["digest"]
    target = cache / manifest.name / f"{manifest.version}-{digest[:16]}"
    sums, small = manifest.sums(), manifest.small()

    def copy(name: str) -> None:
        sha256, size = sums[name]
        place = target / name
        is_there = place.exists() and place.stat().st_size == size
        if is_there and name in small:
            is_there = sha256_of(place) == sha256
        if not is_there:
            copy_checked(source / name, place, sha256=sha256, size=size)

    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        list(pool.map(copy, sorted(sums.keys() - {INFO})))
    write_bytes(epath.Path(target / MANIFEST), (source / MANIFEST).read_bytes())
    copy(INFO)  # last, as when packing
    return epath.Path(os.fspath(target))
