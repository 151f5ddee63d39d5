"""Whether the data of a run are still those that were prepared.

Sizes and times tell most changes apart for nothing. Files that were replaced by others
of the same size and time are told by what they hold: annotations by some blocks before
every phase and as a whole where they are read, images by a few of them.
"""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from exits_jax.data.images import ImageError, decode_image, image_fault
from exits_jax.data.table import Instances
from exits_jax.files.digests import sha256_of
from exits_jax.run.workdir import ConfigError, Workdir

NUM_IMAGES = 64  # of a split that are looked at before each phase
_BLOCK = 2**16
_END = 2**12  # bytes at both ends of an image
_AGAIN = "Use another --workdir, or do all phases again with --redo=prepare."


class _Image(NamedTuple):
    """An image of the sample."""

    path: Any  # as `Workdir.keep` has it
    size: tuple[int, int]  # height, width
    bytes: int
    sha256: str  # of both ends


def stamp(path: Path) -> dict[str, Any]:
    """What tells whether an annotation file is still the same."""
    stat = path.stat()
    return {
        "bytes": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256": sha256_of(path),
        "blocks_sha256": _of_file(path, _BLOCK, 16),
    }


def sample_images(workdir: Workdir, instances: Instances) -> list[list[Any]]:
    """What tells whether the images of a split are still the same.

    Images that `data.on_bad` left out are in the table, too, and may not be readable.
    """
    count = len(instances.paths)
    rows = np.unique(np.linspace(0, count - 1, min(count, NUM_IMAGES)).round())
    found = []
    for row in map(int, rows):
        path = Path(instances.paths[row])
        height, width = instances.image_sizes[row].tolist()
        try:
            seal = (path.stat().st_size, _of_file(path, _END, 2))
        except OSError:
            continue
        found.append(list(_Image(workdir.keep(path), (height, width), *seal)))
    return found


def annotation_files(workdir: Workdir) -> dict[str, Path]:
    """The annotation file of each split."""
    kept = workdir.facts("prepare")["sources"]
    return {split: workdir.find(path) for split, path in kept.items()}


def image_folders(workdir: Workdir) -> dict[str, Path]:
    """The image folder of each split."""
    kept = workdir.facts("prepare").get("images", {})
    return {split: workdir.find(path) for split, path in kept.items()}


def refuse_changed(workdir: Workdir, *, looks_at_images: bool = True) -> None:
    """Raises ConfigError if the data of a run are not those that were prepared.

    A file that is gone is no concern of the phases that do not read it, and one that
    is broken is a matter of `data.on_bad`.
    """
    facts = workdir.facts("prepare")
    for split, known in facts.get("stamps", {}).items():
        path = workdir.find(facts["sources"][split])
        if path.is_file() and not _is_same(path, known):
            raise ConfigError(
                f"{path} was changed after {workdir.path} was prepared from it. "
                f"{_AGAIN}"
            )
    if not looks_at_images:
        return
    for rows in facts.get("samples", {}).values():
        sample = [_Image(*row) for row in rows]
        paths = [workdir.find(image.path) for image in sample]
        changed = [p for p, image in zip(paths, sample) if _is_another(p, image)]
        if changed:
            raise ConfigError(
                f"{len(changed)} of {len(sample)} images that were looked at are not "
                f"those that {workdir.path} was prepared with, the first: "
                f"{changed[0]}. {_AGAIN}"
            )


def refuse_other_images(
    workdir: Workdir, split: str, read: Callable[[Path], bytes], where: str
) -> None:
    """Raises ConfigError if images are read that are not those that were prepared.

    Args:
        workdir: What was prepared.
        split: Which of its splits.
        read: Gives the file that is read in the place of one of the image folder.
            KeyErrors and ImageErrors are no concern here.
        where: What to call the place of those files.
    """
    rows = workdir.facts("prepare").get("samples", {}).get(split, [])
    changed = []
    for image in (_Image(*row) for row in rows):
        path = workdir.find(image.path)
        try:
            data = read(path)
            seal = len(data), _of_blocks(io.BytesIO(data), len(data), _END, 2)
            if seal != (image.bytes, image.sha256):
                decode_image(data, str(path))  # a broken one is a matter of `on_bad`
                changed.append(path)
        except (ImageError, KeyError):
            continue
    if changed:
        raise ConfigError(
            f"{len(changed)} of {len(rows)} images that were looked at in {where} are "
            f"not those that {workdir.path} was prepared with, the first: "
            f"{changed[0].name}. Pack again into another folder, or prepare in another "
            "--workdir."
        )


def refuse_other(workdir: Workdir, split: str) -> None:
    """Raises ConfigError if the annotation file of a split is another as a whole."""
    facts = workdir.facts("prepare")
    known = facts.get("stamps", {}).get(split)
    path = workdir.find(facts["sources"][split])
    if known and path.is_file() and sha256_of(path) != known["sha256"]:
        raise ConfigError(
            f"{path} does not hold any more what {workdir.path} was prepared from. "
            f"{_AGAIN}"
        )


def _is_same(path: Path, known: dict[str, Any]) -> bool:
    stat = path.stat()
    if (stat.st_size, stat.st_mtime_ns) != (known["bytes"], known["mtime_ns"]):
        return sha256_of(path) == known["sha256"]
    blocks = known.get("blocks_sha256")
    return blocks is None or blocks == _of_file(path, _BLOCK, 16)


def _is_another(path: Path, image: _Image) -> bool:
    """Whether an image that can be read is not the one of before."""
    try:
        is_same = path.stat().st_size == image.bytes
        if is_same and _of_file(path, _END, 2) == image.sha256:
            return False
    except OSError:
        return False
    height, width = image.size
    return image_fault(str(path), (height, width), full=True) is None


def _of_file(path: Path, size: int, count: int) -> str:
    with path.open("rb") as file:
        return _of_blocks(file, path.stat().st_size, size, count)


def _of_blocks(file: io.BufferedIOBase, total: int, size: int, count: int) -> str:
    """SHA-256 of blocks of a file from its beginning to its end, evenly spread."""
    digest = hashlib.sha256()
    for start in np.linspace(0, max(0, total - size), count).round():
        file.seek(int(start))
        digest.update(file.read(size))
    return digest.hexdigest()
