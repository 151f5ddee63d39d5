"""Encoded images of a packed data set, by their place in its annotations."""

import json
import os
import threading
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.proto import tf_example_pb2

from exits_jax.data.images import decode_image
from exits_jax.data.table import Instances
from exits_jax.shards.cache import local_copy
from exits_jax.shards.manifest import Manifest, again, read_manifest, verify
from exits_jax.shards.storage import ShardError

_Example: Any = tf_example_pb2.Example  # pyright: ignore[reportAttributeAccessIssue]


class ShardedImages:
    """The images of one split; may be read by several threads at once.

    It goes to another process as a few words and opens its files there anew.

    Attributes:
        folder: Where the shards are read: the data set's folder, or its cached copy.
        annotations: The annotation file that the places refer to.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        split: str = "train",
        *,
        cache: str | os.PathLike[str] | None = None,
    ):
        """Opens a split and compares the sizes of its files with the manifest.

        Args:
            folder: The version folder, as .../exits_coco/1.0.0; on a disk or in a
                bucket.
            split: Its split.
            cache: Folder on a local disk that shards are copied to first, and read
                from; nothing is copied again.

        Raises:
            FileNotFoundError: If there is no such folder.
            ShardError: If it is not finished, a file is missing or has another size,
                or a copy went wrong.
            ValueError: If there is no such split.
        """
        source = epath.Path(folder)
        manifest = read_manifest(source)
        if cache:
            source = local_copy(source, manifest, Path(cache))
        verify(source, manifest, full=False)
        self._open(os.fspath(source), split, manifest)

    def _open(self, folder: str, split: str, manifest: Manifest) -> None:
        if split not in manifest.shards:
            known = ", ".join(manifest.shards)
            raise ValueError(f"{folder} has no split {split!r}; it has {known}.")
        self.folder = folder
        self.annotations = epath.Path(folder) / "annotations" / f"{split}.json"
        self._split, self._manifest = split, manifest
        self._bounds = np.cumsum([s.records for s in manifest.shards[split]])
        self._lock = threading.Lock()

    def __reduce__(self):
        """Goes to another process as the names of its folder and its split."""
        return _reopen, (self.folder, self._split)

    def __len__(self) -> int:
        """Number of images."""
        return int(self._bounds[-1])

    def __getitem__(self, position: int) -> bytes:
        """As `read_bytes`: with a length, all that grain asks of a data source."""
        return self.read_bytes(position)

    def read_bytes(self, position: int) -> bytes:
        """The file of an image, byte by byte.

        Args:
            position: Its place among the images of `annotations`, from 0.

        Raises:
            IndexError: If there is no such image.
            ShardError: If its record is damaged; names the shard.
        """
        return self._record(position)[0]

    def read(self, position: int, *, reduced_by: int = 1) -> np.ndarray:
        """The pixels of an image, the same as those of the file it was packed from.

        Args:
            position: Its place among the images of `annotations`, from 0.
            reduced_by: What both sides are divided by, see `images.read_image`.

        Returns:
            uint8 `[height, width, 3]`.

        Raises:
            ImageError: If it cannot be decoded; names the shard and the image.
        """
        image, name = self._record(position)
        place = f"{self.shard_of(position)}: {name}"
        return decode_image(image, place, reduced_by=reduced_by)

    def name(self, position: int) -> str:
        """The file name of an image, relative to its folder."""
        return self._record(position)[1]

    def position(self, name: str) -> int:
        """The place of an image by its file name; the first, if several share a file.

        Raises:
            KeyError: If there is none; names the image and the folder.
        """
        try:
            return self._positions[os.path.normpath(name)]
        except KeyError:
            raise KeyError(
                f"{self.folder} has no image {name!a:.200} in its split {self._split}."
            ) from None

    def verify(self, full: bool = False) -> None:
        """Compares the files with the manifest, see `manifest.verify`; or every byte.

        Raises:
            ShardError: With every file that differs.
        """
        verify(epath.Path(self.folder), self._manifest, full=full)

    @cached_property
    def _names(self) -> list[str]:
        path = epath.Path(self.folder) / "annotations" / f"{self._split}_names.json"
        return json.loads(path.read_text())

    @cached_property
    def _positions(self) -> dict[str, int]:
        numbered = reversed(list(enumerate(self._names)))
        return {os.path.normpath(name): i for i, name in numbered}

    @cached_property
    def _source(self) -> Any:
        """TFDS's reader, which opens a shard when a record of it is asked for.

        It gives the records as they are: TFDS would take ten times as long to decode
        the objects as well, which training reads from the annotations.
        """
        builder: Any = tfds.builder_from_directory(self.folder)
        listed = [
            os.fspath(path) for path in builder.info.splits[self._split].filepaths
        ]
        shards = [shard.file for shard in self._manifest.shards[self._split]]
        if listed != [os.path.join(self.folder, file) for file in shards]:
            raise ShardError(
                f"{self.folder}: its dataset_info.json lists other shards than its "
                "manifest. One of the two is of another data set."
            )
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        return builder.as_data_source(self._split, deserialize_method=raw)

    def _record(self, position: int) -> tuple[bytes, str]:
        """File and name of an image."""
        if not 0 <= position < len(self):
            raise IndexError(
                f"{self.folder} has {len(self)} images in its split {self._split}; "
                f"there is none at {position}."
            )
        with self._lock:
            source, wanted = self._source, self._names[position]
        try:
            record = source[position]
            values = _Example.FromString(record).features.feature
            (image,) = values["image"].bytes_list.value
            (name,) = values["image/filename"].bytes_list.value
            found = os.fsdecode(name)
        except OSError:
            raise  # the storage failed, not the content
        except Exception as error:  # the reader has no type of its own
            raise ShardError(
                f"{self.shard_of(position)} is damaged: image {position} cannot be "
                f"read ({error}). {again(self.folder)}"
            ) from error
        if found != wanted:
            raise ShardError(
                f"{self.shard_of(position)} is a shard of another data set: it holds "
                f"{found!a:.200} where the names beside it say {wanted!a:.200}. "
                f"{again(self.folder)}"
            )
        return image, found

    def shard_of(self, position: int) -> str:
        """The shard that an image is in, a path."""
        index = int(np.searchsorted(self._bounds, position, side="right"))
        shard = self._manifest.shards[self._split][index]
        return os.path.join(self.folder, shard.file)


def _reopen(folder: str, split: str) -> ShardedImages:
    """A split in another process, without comparing sizes again.

    A function of the module: grain pickles those by name, but class methods by value.
    """
    images = ShardedImages.__new__(ShardedImages)
    images._open(folder, split, read_manifest(epath.Path(folder)))
    return images


class ImageRows(NamedTuple):
    """The images of an annotation file, found in the shards by their names."""

    images: ShardedImages
    names: tuple[str, ...]  # of the images of the file, in its order; "" if unused

    def read(self, image: int, *, reduced_by: int = 1) -> np.ndarray:
        """The pixels of an image by its place in the file; see `ShardedImages.read`."""
        position = self.images.position(self.names[image])
        return self.images.read(position, reduced_by=reduced_by)

    def name(self, image: int) -> str:
        """What to call it in messages."""
        name = self.names[image]
        return f"{self.images.shard_of(self.images.position(name))}: {name}"


def attach(
    instances: Instances, images: ShardedImages, folder: str | os.PathLike[str]
) -> Instances:
    """The same objects, with pixels from shards instead of an image folder.

    Images are matched by name, so that the annotations may be others than those that
    were packed, as long as they are of the same images.

    Args:
        instances: As read with the image folder.
        images: A split of a packed data set.
        folder: That image folder; it need not exist any more.

    Raises:
        KeyError: If an image is not in the shards; names the first of them.
    """
    places = instances.image_position
    names = [""] * (int(places.max(initial=-1)) + 1)
    for place, path in zip(places.tolist(), instances.paths):
        names[place] = os.path.relpath(path, folder)
        images.position(names[place])
    return instances.with_images(ImageRows(images, tuple(names)))
