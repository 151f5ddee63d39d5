"""What drawn scenes cannot show. Needs EXITS_DATA, the folder that holds coco_mini."""

import json
import os
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from configs import custom
from convert_weights.__main__ import main as convert
from exits_jax.data.annotations import read_instances
from exits_jax.data.batches import label_batches
from exits_jax.data.crops import Window
from exits_jax.data.extreme_points import clean_points, points_of_record
from exits_jax.data.images import read_image
from exits_jax.data.masks import decode_mask
from exits_jax.evaluation.point_quality import crop_mask
from exits_jax.models.params import abstract_graph
from exits_jax.run.extractor import extractor_start
from exits_jax.run.from_config import (
    crop_options,
    generator_builder,
    image_stats,
    point_options,
)
from exits_jax.run.workdir import Workdir
from exits_jax.train.step import retrieve

DATA = Path(os.environ.get("EXITS_DATA", "/nonexistent")) / "coco_mini"
WEIGHTS = DATA.parent.parent / "weights" / "vit_tiny_patch16_224_distilled.safetensors"
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="needs EXITS_DATA, a folder with coco_mini"
)


@pytest.fixture(scope="module")
def source():
    return json.loads((DATA / "annotations" / "val.json").read_text())


@pytest.fixture(scope="module")
def instances():
    rule = partial(points_of_record, mode="extremenet")
    path = DATA / "annotations" / "val.json"
    found = read_instances(path, DATA / "images", on_bad="error", points_of=rule)
    assert found.remarks == []
    return found.instances


def test_every_record_is_read(source, instances):
    assert len(instances) == len(source["annotations"]) == 1077
    assert sum(item.is_crowd for item in instances) == 10
    assert np.count_nonzero(instances.has_points) == 1067


def test_boxes_from_extreme_points_agree_with_the_masks(source, instances):
    masks = {record["id"]: record["segmentation"] for record in source["annotations"]}
    distances = []
    for item in instances[:300]:
        if item.is_crowd:
            continue
        mask = decode_mask(masks[item.annotation_id], *item.image_size)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        tight = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        distances.append(np.abs(np.subtract(item.box, tight)).max())
    assert np.median(distances) <= 1
    assert np.mean(np.array(distances) <= 2) > 0.97


def test_clean_points_lie_on_their_objects(source):
    sizes = {image["id"]: image for image in source["images"]}
    for record in source["annotations"][:200]:
        image = sizes[record["image_id"]]
        mask = decode_mask(record["segmentation"], image["height"], image["width"])
        for x, y in clean_points(mask):
            assert mask[int(y), int(x)]


def test_grey_photographs_become_rgb():
    modes = {}
    for path in sorted((DATA / "images").iterdir()):
        with Image.open(path) as image:
            modes[path] = image.mode
    grey = [path for path, mode in modes.items() if mode == "L"]
    assert grey
    for path in grey:
        pixels = read_image(path)
        assert pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all()


@pytest.mark.slow
def test_attention_of_a_trained_vit_tells_objects_from_background(
    source, instances, tmp_path
):
    if not WEIGHTS.exists():
        pytest.skip(f"needs {WEIGHTS.name} beside EXITS_DATA")
    weights = tmp_path / "vit_tiny.safetensors"
    assert convert([str(WEIGHTS), f"--out={weights}"]) == 0
    config = custom.get_config("cpu")
    config.init.encoder = str(weights)
    masks = {record["id"]: record["segmentation"] for record in source["annotations"]}
    objects = [
        item
        for item in instances
        if not item.is_crowd
        and np.prod(np.subtract(item.box[2:], item.box[:2])) > 96**2
    ][::8][:32]
    build = generator_builder(config, role="extractor")
    graph = abstract_graph(lambda rngs: build(rngs).encoder)
    encoder = extractor_start(config, Workdir(tmp_path))["encoder"]
    find = jax.jit(
        lambda batch: retrieve(
            graph,
            encoder,
            batch,
            options=point_options(config, {}),
            stats=image_stats(config),
            patch_size=16,
        )
    )
    right = {"fg": [], "bg": []}
    for rows in label_batches(objects, crop_options(config), batch=16):
        found = find(rows)
        for row in np.flatnonzero(rows["index"] >= 0):
            item = objects[rows["index"][row]]
            mask = decode_mask(masks[item.annotation_id], *item.image_size)
            window = Window(*(int(edge) for edge in rows["window"][row]))
            cells = crop_mask(mask, window, 224).reshape(14, 16, 14, 16)
            is_object = cells.mean(axis=(1, 3)).ravel() > 0.5
            right["fg"] += list(is_object[np.asarray(found.pseudo.fg[row])])
            right["bg"] += list(~is_object[np.asarray(found.pseudo.bg[row])])
    assert np.mean(right["fg"]) > 0.75
    assert np.mean(right["bg"]) > 0.85
    assert len(right["fg"]) > 200 and len(right["bg"]) > 200
