"""Images of a TFDS data set as files in a folder, where annotations look for them."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from etils import epath

from exits_jax.shards.storage import ShardError, is_safe, write_bytes


def write_images(
    examples: Iterable[Mapping[str, Any]],
    folder: str | os.PathLike[str],
    *,
    name_of: Callable[[Mapping[str, Any]], bytes | str] = lambda e: e["image/filename"],
) -> int:
    """Writes the image files of a TFDS data source, byte by byte, under their names.

    Args:
        examples: Records whose `image` was not decoded, as of
            `as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})`.
        folder: Where to write; files of the same content stay as they are.
        name_of: The file name of a record, relative to the folder.

    Returns:
        How many files the folder holds of these records.

    Raises:
        ShardError: If a record's image was decoded, its name leads out of the folder,
            or there is a file of that name with other bytes.
    """
    written: set[Path] = set()
    for number, example in enumerate(examples):
        data, name = example["image"], name_of(example)
        name = os.fsdecode(name)
        if not isinstance(data, bytes):
            raise ShardError(
                f"Record {number} ({name!a:.200}) holds {type(data).__name__}, not the "
                "bytes of a file: give the data source "
                'decoders={"image": tfds.decode.SkipDecoding()}.'
            )
        if not is_safe(name):
            raise ShardError(
                f"Record {number} has the unsafe file name {name!a:.200}; expected a "
                "path below the image folder."
            )
        path = Path(folder) / name
        _write(path, data)
        written.add(path)
    return len(written)


def _write(path: Path, data: bytes) -> None:
    if path.exists():
        if path.read_bytes() != data:
            raise ShardError(f"{path} exists and holds another image; it is kept.")
        return
    write_bytes(epath.Path(path), data)
