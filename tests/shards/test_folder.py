import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from exits_jax.data.annotations import read_instances
from exits_jax.shards.builder import _Info
from exits_jax.shards.folder import write_images
from exits_jax.shards.storage import ShardError
from tests.shards import drawn


class LikeStockCoco(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The features of TFDS's own `coco`, at the size of a test; no masks, as there."""

    VERSION = tfds.core.Version("1.1.0")
    code_path = None  # TFDS would look for checksums of downloads beside its code
    folder = None

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(encoding_format="png"),
                "image/filename": tfds.features.Text(),
                "image/id": np.int64,
                "objects": tfds.features.Sequence(
                    {
                        "id": np.int64,
                        "area": np.int64,
                        "bbox": tfds.features.BBoxFeature(),
                        "label": tfds.features.ClassLabel(num_classes=80),
                        "is_crowd": np.bool_,
                    }
                ),
            }
        )
        return _Info(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        source = json.loads((self.folder / "train.json").read_text(encoding="utf-8"))
        for image in source["images"]:
            path = self.folder / "images" / image["file_name"]
            yield (
                image["id"],
                {
                    "image": path.read_bytes(),
                    "image/filename": image["file_name"],
                    "image/id": image["id"],
                    "objects": [],
                },
            )


@pytest.fixture(scope="module")
def stock(source, tmp_path_factory):
    """A folder as TFDS itself makes it."""
    LikeStockCoco.folder = source
    out = tmp_path_factory.mktemp("tfds")
    builder = LikeStockCoco(data_dir=out, file_format="array_record")
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    builder.download_and_prepare(download_config=config)
    return builder.data_dir


def encoded(folder):
    return tfds.builder_from_directory(folder).as_data_source(
        "train", decoders={"image": tfds.decode.SkipDecoding()}
    )


def test_images_of_a_stock_data_set_are_found_by_our_annotations(
    source, stock, tmp_path
):
    count = write_images(encoded(stock), tmp_path / "images")
    assert count == len(drawn.NAMES)
    assert drawn.contents(tmp_path / "images") == drawn.contents(source / "images")
    shutil.copy(source / "train.json", tmp_path)
    found = read_instances(
        tmp_path / "train.json", tmp_path / "images", on_bad="error"
    ).instances
    assert len(found) == 10


def test_a_second_time_changes_nothing(stock, tmp_path):
    write_images(encoded(stock), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert write_images(encoded(stock), tmp_path) == len(drawn.NAMES)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_another_file_of_the_same_name_is_kept(stock, tmp_path):
    (tmp_path / "0006.png").write_bytes(b"mine")
    with pytest.raises(ShardError, match=r"0006\.png exists and holds another image"):
        write_images(encoded(stock), tmp_path)
    assert (tmp_path / "0006.png").read_bytes() == b"mine"


def test_names_may_be_made_of_other_fields(stock, tmp_path):
    write_images(
        encoded(stock), tmp_path, name_of=lambda e: f"{e['image/id']:012d}.png"
    )
    assert sorted(path.name for path in tmp_path.iterdir())[0] == "000000000001.png"


def test_decoded_images_are_refused(stock, tmp_path):
    decoded = tfds.builder_from_directory(stock).as_data_source("train")
    with pytest.raises(ShardError, match="holds ndarray, not the bytes of a file"):
        write_images(decoded, tmp_path)


@pytest.mark.parametrize(
    "name", ["../x.jpg", "/x.jpg", "a/../../x.jpg", "a\\x.jpg", "", "C:x", "a/", "."]
)
def test_a_name_cannot_lead_out_of_the_folder(name, tmp_path):
    record = {"image": b"bytes", "image/filename": name.encode()}
    with pytest.raises(ShardError, match="unsafe file name"):
        write_images([record], tmp_path / "images")
    assert not list(tmp_path.iterdir())
