"""TFDS data sets of prepared instances: exits_voc, _coco, _lvis and _custom.

Importing this module registers the four names with TFDS. No TensorFlow and no Beam is
loaded, nothing is downloaded, and no bucket but that of the data set is asked.
"""

import os
from collections.abc import Mapping
from typing import Any

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.dataset_builder import FileReaderBuilder

from exits_jax.shards import packing
from exits_jax.shards.features import make_features
from exits_jax.shards.manifest import INFO, read_manifest, verify
from exits_jax.shards.packing import Packed, PackError, Plan, Shards
from exits_jax.shards.source import Source, Split, describe, read_split, schema_of

__all__ = ["BUILDERS", "ExitsBuilder", "PackError", "Packed", "Source"]


class _Info(tfds.core.DatasetInfo):
    """A description that TFDS does not look up in its public bucket."""

    def initialize_from_bucket(self) -> None:
        """There is nothing to be found there, so nothing is asked for."""


class ExitsBuilder(FileReaderBuilder, skip_registration=True):
    """Images as they are stored, with boxes and extreme points; never a mask."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "One record per image, in the order of the annotations."}

    def __init__(
        self,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        sources: Mapping[str, Source] | None = None,
        file_format: str = "array_record",
        **kwargs: Any,
    ):
        """Opens a packed data set, or prepares to pack one.

        Args:
            data_dir: Where data sets lie; this one is in data_dir/NAME/VERSION.
            sources: Annotations and images of each split; needed only to pack.
            file_format: "array_record".
            **kwargs: What TFDS hands on.

        Raises:
            ShardError: If a finished data set is damaged.
        """
        self._sources = dict(sources or {})
        if data_dir is not None:
            _refuse_damaged(self.folder_in(data_dir))
        super().__init__(data_dir=data_dir, file_format=file_format, **kwargs)

    @classmethod
    def folder_in(cls, data_dir: str | os.PathLike[str]) -> epath.Path:
        """The version folder of this data set where data sets lie."""
        return epath.Path(data_dir) / cls.name / str(cls.VERSION)

    def pack(self, *, shard_mb: int = 256, num_workers: int = 0) -> Packed:
        """Writes the data set, or what an earlier run left to write.

        Args:
            shard_mb: Size of a shard, in MB of image files.
            num_workers: Processes that write; 0 writes in this one.

        Raises:
            PackError: If there are no sources, a number is out of range or the folder
                holds shards of another source.
            AnnotationError: If the annotations or their images cannot be used.
            ImageError: If an image file changes meanwhile.
            FileNotFoundError: If a file is missing.
        """
        if not self._sources:
            raise PackError(
                f"{self.name} has no sources: give its builder the annotations and the "
                "images of each split."
            )
        if shard_mb < 1 or num_workers < 0:
            raise PackError(
                "shard_mb must be at least 1 and num_workers at least 0, "
                f"got {shard_mb} and {num_workers}."
            )
        folder = epath.Path(self.data_dir)
        splits = {name: read_split(source) for name, source in self._sources.items()}
        schema, categories = schema_of(splits)
        source = describe(splits, self.name, shard_mb)
        if (folder / INFO).exists():
            return self._found(folder, source)
        with packing.alone(folder):
            if (folder / INFO).exists():  # finished by another process just now
                packing.tidy(folder)
                return self._found(folder, source)
            packing.claim(folder, source)
            shards, num_reused = packing.write_missing(
                folder,
                splits,
                self._plan(splits, shard_mb * 2**20),
                schema,
                source["digest"],
                num_workers,
            )
            metadata = {"categories": categories, "source_sha256": source["digest"]}
            info = self._describe(make_features(schema), metadata)
            info.set_splits(self._splits(shards))
            packing.publish(folder, info, splits, shards, source)
            packing.tidy(folder)
        self.info.read_from_directory(self.data_dir)
        return packing.summary(folder, shards, num_reused)

    def download_and_prepare(self, **_: Any) -> None:  # pyright: ignore
        """Packs with the default options; those of TFDS have no meaning here."""
        if not (epath.Path(self.data_dir) / INFO).exists():
            self.pack()

    def _info(self) -> tfds.core.DatasetInfo:
        # Classes and ids come from the data: there are no features before they are
        # packed, and afterwards TFDS reads them from the folder.
        return _Info(builder=self)

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        self.pack()

    def _found(self, folder: epath.Path, source: dict[str, Any]) -> Packed:
        """The finished data set, if it was made from the same source."""
        manifest = read_manifest(folder)
        packing.refuse_other(folder, manifest.source, source)
        verify(folder, manifest, full=False)
        packing.tidy(folder)
        count = sum(len(listed) for listed in manifest.shards.values())
        return packing.summary(folder, manifest.shards, count)

    def _plan(self, splits: Mapping[str, Split], shard_bytes: int) -> Plan:
        plan: Plan = {}
        for name, split in splits.items():
            template = self._get_filename_template(split_name=name)
            parts = split.shards(shard_bytes)
            paths = [
                template.sharded_filepath(shard_index=index, num_shards=len(parts))
                for index in range(len(parts))
            ]
            plan[name] = [(path.name, part) for path, part in zip(paths, parts)]
        return plan

    def _splits(self, shards: Shards) -> tfds.core.SplitDict:
        return tfds.core.SplitDict(
            [
                tfds.core.SplitInfo(
                    name=name,
                    shard_lengths=[shard.records for shard in listed],
                    num_bytes=sum(shard.bytes for shard in listed),
                    filename_template=self._get_filename_template(split_name=name),
                )
                for name, listed in shards.items()
            ]
        )

    def _describe(
        self, features: tfds.features.FeaturesDict, metadata: dict[str, Any]
    ) -> tfds.core.DatasetInfo:
        info = _Info(
            builder=self,
            description="Images with boxes and extreme points of their objects.",
            features=features,
            metadata=tfds.core.MetadataDict(metadata),
            disable_shuffling=True,
        )
        info.set_file_format("array_record")
        return info


def _refuse_damaged(folder: epath.Path) -> None:
    """Looks at a finished data set before TFDS does, which trusts its files."""
    if (folder / INFO).exists():
        verify(folder, read_manifest(folder), full=False)


class ExitsVoc(ExitsBuilder):
    """PASCAL VOC 2012 with extreme points; TFDS knows it as exits_voc."""


class ExitsCoco(ExitsBuilder):
    """COCO with extreme points; TFDS knows it as exits_coco."""


class ExitsLvis(ExitsBuilder):
    """LVIS v1 with extreme points; TFDS knows it as exits_lvis."""


class ExitsCustom(ExitsBuilder):
    """Any other prepared data; TFDS knows it as exits_custom."""


BUILDERS: dict[str, type[ExitsBuilder]] = {
    "voc": ExitsVoc,
    "coco": ExitsCoco,
    "lvis": ExitsLvis,
    "custom": ExitsCustom,
}
