import json
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from exits_jax.data.annotations import read_instances
from exits_jax.data.records import AnnotationError
from exits_jax.shards.builder import BUILDERS, ExitsCustom
from exits_jax.shards.packing import PackError
from exits_jax.shards.source import Source
from tests.shards import drawn
from tests.support import toy
from tests.support.waiting import CEILING_S


def test_plain_tfds_reads_every_field(source, packed):
    records = list(
        tfds.data_source(
            "exits_coco",
            split="train",
            data_dir=packed.parent.parent,
            decoders={"image": tfds.decode.SkipDecoding()},
        )
    )
    file = json.loads((source / "train.json").read_text(encoding="utf-8"))
    instances = read_instances(source / "train.json", source / "images").instances
    assert [r["image/filename"].decode() for r in records] == list(drawn.NAMES)
    assert [r["image/id"] for r in records] == [i["id"] for i in file["images"]]
    for record, image in zip(records, file["images"], strict=True):
        path = source / "images" / image["file_name"]
        assert record["image"] == path.read_bytes()
        expected = [item for item in instances if item.image_id == image["id"]]
        objects = record["objects"]
        assert {len(values) for values in objects.values()} == {len(expected)}
        for row, item in enumerate(expected):
            x0, y0, x1, y1 = item.box
            box = [y0 / drawn.HEIGHT, x0 / drawn.WIDTH, y1 / drawn.HEIGHT]
            box.append(x1 / drawn.WIDTH)
            points = item.extreme_points
            assert objects["id"][row] == item.annotation_id
            np.testing.assert_array_equal(objects["bbox"][row], np.float32(box))
            assert objects["label"][row] == (17, 5).index(item.category_id)
            assert objects["is_crowd"][row] == item.is_crowd
            assert objects["has_points"][row] == (points is not None)
            wanted = np.zeros((4, 2)) if points is None else points
            np.testing.assert_array_equal(objects["extreme_points"][row], wanted)
            assert objects["extreme_points"][row].dtype == np.float32
    assert sum(bool(c) for r in records for c in r["objects"]["is_crowd"]) == 1


def test_the_folder_opens_by_its_path_and_decodes_images(source, packed):
    builder = tfds.builder_from_directory(packed)
    assert builder.info.features["objects"]["label"].names == ["cat", "dog"]
    assert builder.info.metadata["categories"] == [
        {"id": 17, "name": "cat"},
        {"id": 5, "name": "dog"},
    ]
    assert builder.info.splits["train"].num_examples == len(drawn.NAMES)
    assert builder.info.splits["train"].num_shards > 2
    image = builder.as_data_source("train")[3]["image"]
    assert image.shape == (drawn.HEIGHT, drawn.WIDTH, 3)


@pytest.mark.parametrize("name", BUILDERS)
def test_tfds_knows_the_builder_by_name(name, tmp_path):
    builder = tfds.builder(f"exits_{name}", data_dir=tmp_path)
    assert isinstance(builder, BUILDERS[name])
    assert str(builder.version) in builder.RELEASE_NOTES
    assert not builder.is_prepared()


def test_text_ids_stay_texts(tmp_path):
    drawn.write_source(tmp_path, text_ids=True)
    folder = drawn.pack(tmp_path, tmp_path / "out")
    record = tfds.builder_from_directory(folder).as_data_source("train")[0]
    assert record["image/id"] == b"id/1"
    assert record["objects"]["id"] == [b"id/10", b"id/11"]


def test_labels_have_names_of_one_line_that_differ(tmp_path):
    source = drawn.write_source(tmp_path)
    names = ["a\nb", "a b", "", None, "ok"]
    source["categories"] = [
        {"id": number, "name": name} for number, name in enumerate(names, start=5)
    ]
    for record in source["annotations"]:
        record["category_id"] = 8
    drawn.write_annotations(tmp_path, source)
    folder = drawn.pack(tmp_path, tmp_path / "out")
    info = tfds.builder_from_directory(folder).info
    labels = ["a b", "a b (2)", "category 7", "category 8", "ok"]
    assert info.features["objects"]["label"].names == labels
    assert [entry["name"] for entry in info.metadata["categories"]] == names


def test_two_splits_share_one_list_of_classes(source, tmp_path):
    other = tmp_path / "val"
    val = drawn.write_source(other)
    val["categories"] = [{"id": 5, "name": "dog"}, {"id": 17, "name": "cat"}]
    drawn.write_annotations(other, val)
    sources = {
        "train": Source(source / "train.json", source / "images"),
        "val": Source(other / "train.json", other / "images"),
    }
    made = ExitsCustom(data_dir=tmp_path, sources=sources)
    made.pack()
    assert made.as_data_source("val")[0]["objects"]["label"] == [0, 1]
    val["categories"][0]["name"] = "wolf"
    drawn.write_annotations(other, val)
    with pytest.raises(AnnotationError, match="5 is named 'dog' in one split and 'wo"):
        ExitsCustom(data_dir=tmp_path / "new", sources=sources).pack()


def test_annotations_without_masks_lie_beside_the_shards(source, packed):
    before = json.loads((source / "train.json").read_text(encoding="utf-8"))
    assert json.loads((packed / "annotations" / "train.json").read_text()) == before
    assert not any(b"segmentation" in data for data in drawn.contents(packed).values())


def test_a_mask_is_refused(tmp_path):
    source = drawn.write_source(tmp_path)
    source["annotations"][3]["segmentation"] = [[0, 0, 9, 0, 9, 9]]
    drawn.write_annotations(tmp_path, source)
    with pytest.raises(AnnotationError, match="annotation 21 has a mask"):
        drawn.pack(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_image_of_an_object_stops_before_anything_is_written(tmp_path):
    drawn.write_source(tmp_path)
    (tmp_path / "images" / "0006.png").unlink()
    with pytest.raises(AnnotationError, match="E111.*0006.png"):
        drawn.pack(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_image_without_objects_that_is_missing_is_left_out_and_listed(tmp_path):
    source = drawn.write_source(tmp_path)
    source["images"].append({"id": 7, "file_name": "../secret", "width": 1})
    drawn.write_annotations(tmp_path, source)
    (tmp_path / "images" / "nobody.png").unlink()
    folder = drawn.pack(tmp_path, tmp_path / "out")
    listed = json.loads((folder / "annotations" / "train_left_out.json").read_text())
    assert [entry["image_id"] for entry in listed] == [4, 7]
    assert "nobody.png" in listed[0]["message"]
    assert "unsafe" in listed[1]["message"]
    file = json.loads((folder / "annotations" / "train.json").read_text())
    assert [image["id"] for image in file["images"]] == [1, 2, 3, 5, 6]
    builder = tfds.builder_from_directory(folder)
    assert builder.info.splits["train"].num_examples == 5


def test_what_the_file_leaves_out_of_an_image_is_filled_in(tmp_path):
    source = drawn.write_source(tmp_path)
    image = source["images"][0]
    for field in ("file_name", "width", "height"):
        del image[field]
    image["coco_url"] = "http://images.example/train2017/0001.png"
    drawn.write_annotations(tmp_path, source)
    folder = drawn.pack(tmp_path, tmp_path / "out")
    file = json.loads((folder / "annotations" / "train.json").read_text())
    assert file["images"][0]["file_name"] == "0001.png"
    assert file["images"][0]["height"] == drawn.HEIGHT


def test_without_sources_or_with_odd_numbers_nothing_is_packed(source, tmp_path):
    with pytest.raises(PackError, match="exits_custom has no sources"):
        ExitsCustom(data_dir=tmp_path).pack()
    with pytest.raises(PackError, match="shard_mb must be at least 1"):
        drawn.builder(source, tmp_path).pack(shard_mb=0)


def test_nothing_is_asked_over_the_network(source, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    drawn.pack(source, tmp_path)


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
import exits_jax.shards.builder, exits_jax.shards.reader, exits_jax.shards.folder
from pathlib import Path
from exits_jax.shards.builder import ExitsVoc, Source
source = Source(Path({source!r}) / "train.json", Path({source!r}) / "images")
made = ExitsVoc(data_dir={out!r}, sources={{"train": source}}).pack()
images = exits_jax.shards.reader.ShardedImages(made.folder)
assert images.read(0).ndim == 3 and images.name(1) == "a b.png"
loaded = {{"jax", "tensorflow", "torch", "flax"}} & sys.modules.keys()
assert not loaded, loaded
"""


def test_packing_and_reading_load_neither_tensorflow_nor_jax(source, tmp_path):
    text = SCRIPT.format(root=str(toy.ROOT), source=str(source), out=str(tmp_path))
    subprocess.run([sys.executable, "-c", text], check=True, timeout=CEILING_S)


READ = """
import sys, tensorflow_datasets as tfds
records = tfds.data_source("exits_coco", split="train", data_dir=sys.argv[1])
assert records[2]["objects"]["id"] == [30, 31]
assert not any(name.startswith("exits_jax") for name in sys.modules)
"""


def test_tfds_reads_the_shards_without_this_package(packed, tmp_path):
    command = [sys.executable, "-c", READ, str(packed.parent.parent)]
    subprocess.run(command, check=True, timeout=CEILING_S, cwd=tmp_path)
