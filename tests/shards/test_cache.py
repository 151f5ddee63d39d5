import os
import shutil
from pathlib import Path

import fsspec
import pytest
from etils import epath
from fsspec.implementations.local import LocalFileSystem

from exits_jax.shards import cache as caches
from exits_jax.shards.reader import ShardedImages
from exits_jax.shards.storage import ShardError
from tests.shards import drawn


@pytest.fixture
def remote(packed, tmp_path):
    """A packed data set that the cache is filled from."""
    return shutil.copytree(packed, tmp_path / "remote" / "1.0.0")


def all_bytes(images):
    return [images.read_bytes(position) for position in range(len(images))]


def test_the_copy_is_read_without_the_source(remote, packed, tmp_path):
    images = ShardedImages(remote, cache=tmp_path / "cache")
    shutil.rmtree(remote)
    assert all_bytes(images) == all_bytes(ShardedImages(packed))
    assert images.folder.startswith(str(tmp_path / "cache"))
    images.verify(full=True)
    assert drawn.contents(Path(images.folder)) == drawn.contents(packed)


def test_what_is_there_is_not_copied_again(remote, tmp_path, monkeypatch):
    ShardedImages(remote, cache=tmp_path / "cache")
    monkeypatch.setattr(caches, "copy_checked", None)
    ShardedImages(remote, cache=tmp_path / "cache")


def test_a_small_file_of_the_copy_that_changed_is_copied_again(remote, tmp_path):
    folder = Path(ShardedImages(remote, cache=tmp_path / "cache").folder)
    names = folder / "annotations" / "train_names.json"
    names.write_bytes(bytes(names.stat().st_size))
    ShardedImages(remote, cache=tmp_path / "cache").verify(full=True)


def test_a_copy_that_was_interrupted_goes_on(remote, tmp_path, monkeypatch):
    copy, copied = caches.copy_checked, []

    def copy_three(source, target, **sums):
        if len(copied) == 3:
            raise OSError("the connection broke")
        copied.append(target)
        copy(source, target, **sums)

    monkeypatch.setattr(caches, "_NUM_THREADS", 1)
    monkeypatch.setattr(caches, "copy_checked", copy_three)
    with pytest.raises(OSError, match="the connection broke"):
        ShardedImages(remote, cache=tmp_path / "cache")
    (folder,) = (tmp_path / "cache" / "exits_coco").iterdir()
    with pytest.raises(ShardError, match="not been finished"):
        ShardedImages(folder)
    before = {path: path.stat().st_mtime_ns for path in copied}
    monkeypatch.setattr(caches, "copy_checked", copy)
    ShardedImages(remote, cache=tmp_path / "cache").verify(full=True)
    assert {path: path.stat().st_mtime_ns for path in copied} == before


def test_a_shard_that_arrives_damaged_never_gets_its_name(remote, tmp_path):
    shard = sorted(remote.glob("*.array_record-*"))[1]
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ShardError, match=f"{shard.name} has .*its manifest says"):
        ShardedImages(remote, cache=tmp_path / "cache")
    names = {path.name for path in (tmp_path / "cache").rglob("*")}
    assert shard.name not in names
    assert not any(name.endswith(".tmp") for name in names)


def test_data_sets_of_other_sources_do_not_share_a_copy(remote, tmp_path):
    other = drawn.write_source(tmp_path / "other")
    other["annotations"].pop()
    drawn.write_annotations(tmp_path / "other", other)
    second = drawn.pack(tmp_path / "other", tmp_path / "out")
    one = ShardedImages(remote, cache=tmp_path / "cache")
    two = ShardedImages(second, cache=tmp_path / "cache")
    assert one.folder != two.folder
    two.verify(full=True)


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """Object storage at gs://, kept in a folder; its objects cannot be renamed."""

    class Bucket(LocalFileSystem):
        protocol = ("gcs", "gs")
        cachable = False

        def __init__(self, **_):
            super().__init__(auto_mkdir=True)

        @classmethod
        def _strip_protocol(cls, path):
            name = os.fspath(path).removeprefix("gcs://").removeprefix("gs://")
            base = str(tmp_path / "objects")
            return name if name.startswith(base) else f"{base}/{name}".rstrip("/")

        def mv(self, *_, **__):
            raise AssertionError("an object was renamed")

    known = dict(fsspec.registry)
    fsspec.register_implementation("gcs", Bucket, clobber=True)
    yield epath.Path("gs://bucket/data")
    from fsspec.registry import _registry

    _registry.clear()
    _registry.update(known)


def test_a_bucket_is_packed_to_and_read_through_the_cache(
    source, packed, bucket, tmp_path
):
    result = drawn.builder(source, bucket).pack(shard_mb=1)
    assert result.folder == "gs://bucket/data/exits_coco/1.0.0"
    assert result.shards > 2
    again = drawn.builder(source, bucket).pack(shard_mb=1)
    assert again.reused == again.shards == result.shards
    images = ShardedImages(result.folder, cache=tmp_path / "cache")
    assert all_bytes(images) == all_bytes(ShardedImages(packed))
    stored = tmp_path / "objects" / "bucket" / "data" / "exits_coco" / "1.0.0"
    assert drawn.contents(stored) == drawn.contents(packed)
