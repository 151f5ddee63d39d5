import json
import os
from pathlib import Path

import numpy as np
import pytest

from exits_jax.data.images import read_image
from exits_jax.shards.builder import ExitsCoco
from exits_jax.shards.reader import ShardedImages
from exits_jax.shards.source import Source

DATA = os.environ.get("EXITS_DATA")
pytestmark = pytest.mark.skipif(
    not DATA, reason="EXITS_DATA, a folder of test data, is not set"
)


def test_photographs_keep_their_bytes_and_their_pixels(tmp_path):
    folder = Path(str(DATA)) / "coco_mini"
    file = json.loads((folder / "annotations" / "val.json").read_text())
    for record in file["annotations"]:
        record.pop("segmentation")
    (tmp_path / "val.json").write_text(json.dumps(file))
    source = Source(tmp_path / "val.json", folder / "images")
    builder = ExitsCoco(data_dir=tmp_path, sources={"val": source})
    packed = builder.pack(shard_mb=4, num_workers=2)
    assert packed.shards > 2
    images = ShardedImages(packed.folder, "val")
    images.verify(full=True)
    assert len(images) == len(file["images"])
    for position, record in enumerate(file["images"]):
        path = folder / "images" / record["file_name"]
        assert images.name(position) == record["file_name"]
        assert images.read_bytes(position) == path.read_bytes()
        np.testing.assert_array_equal(images.read(position), read_image(path))
