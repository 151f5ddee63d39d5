"""Masks in layers, through the phases: objects of an image meet in any order."""

import itertools
import json
import random
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from exits_jax import exit_status, main
from exits_jax.data import rle
from exits_jax.labeling import label
from exits_jax.predict.files import Task, predict_file
from tests.support import many_objects

NUM_IMAGES, PER_IMAGE = 7, 3  # objects overlap their neighbours
SIZE = (64, 96)  # height, width


def write_dataset(folder: Path) -> Path:
    """Overlapping ellipses of one class; those of an image stand far apart."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for image in range(NUM_IMAGES):
        pixels = rng.integers(0, 90, (*SIZE, 3), np.uint8)
        for part in range(PER_IMAGE):
            x, y, a, b = 24 + 22 * part, 32, *rng.integers(14, 22, 2).tolist()
            color = rng.integers(120, 255, 3).tolist()
            cv2.ellipse(pixels, (x, y), (a, b), 0, 0, 360, color, -1)
            points = [[x, y - b], [x - a, y], [x, y + b], [x + a, y]]
            annotations.append(
                {
                    "id": 10 * image + part,
                    "image_id": image,
                    "category_id": 1,
                    "extreme_points": points,
                }
            )
        name = f"{image}.png"
        Image.fromarray(pixels).save(folder / "images" / name)
        size = {"height": SIZE[0], "width": SIZE[1]}
        images.append({"id": image, "file_name": name, **size})
    random.Random(0).shuffle(annotations)
    categories = [{"id": 1, "name": "ellipse"}]
    path = folder / "annotations.json"
    source = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(source))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Configuration of a run whose generator is trained."""
    folder = tmp_path_factory.mktemp("layers")
    write_dataset(folder / "data")
    config = many_objects.config_for(folder / "data", folder / "run")
    config.generate.threshold = 0.3
    config.generate.batch_size = 32
    many_objects.train(config)
    return config


def generated(trained, folder: Path, *, copied: bool = True, **changes):
    """The masks of a copy of the run, as segmentations by annotation."""
    config = trained.copy_and_resolve_references()
    config.workdir = str(folder)
    config.generate.update(changes)
    if copied:
        shutil.copytree(trained.workdir, folder)
    assert main.run(config, "generate") == exit_status.OK
    return masks(folder / "pseudo_masks.json")


def masks(path: Path) -> dict:
    made = json.loads(path.read_text())["annotations"]
    return {record["id"]: record["segmentation"] for record in made}


@pytest.fixture(scope="module")
def layered(trained, tmp_path_factory):
    return generated(trained, tmp_path_factory.mktemp("l") / "run", layers=True)


def num_shared(made: dict) -> int:
    """Pixels that lie in the masks of two neighbours."""
    bits = {key: rle.decode(found) for key, found in made.items()}
    pairs = itertools.combinations(bits, 2)
    return sum((bits[a] & bits[b]).sum() for a, b in pairs if a // 10 == b // 10)


def test_masks_share_hardly_a_pixel_any_more(trained, layered, tmp_path):
    before = generated(trained, tmp_path / "run", layers=False)
    assert before.keys() == layered.keys()
    assert 10 * num_shared(layered) < num_shared(before)
    area = lambda made: sum(rle.decode(found).sum() for found in made.values())
    assert area(layered) > 0.5 * area(before)


@pytest.mark.parametrize(("batch_size", "part_size"), [(2, 2), (3, 9), (8, 64)])
def test_masks_do_not_depend_on_batches_and_parts(
    trained, layered, tmp_path, batch_size, part_size
):
    sizes = {"batch_size": batch_size, "part_size": part_size}
    assert generated(trained, tmp_path / "run", layers=True, **sizes) == layered


def test_a_restart_ends_with_the_same_masks(trained, layered, tmp_path, monkeypatch):
    real, asked = label.logits_of, []

    def logits_of(*args):
        predict = real(*args)

        def stop_late(rows):
            asked.append(len(rows["image"]))
            if len(asked) == 12:
                raise KeyboardInterrupt
            return predict(rows)

        return stop_late

    monkeypatch.setattr(label, "logits_of", logits_of)
    changes = {"layers": True, "batch_size": 4, "part_size": 4}
    config = trained.copy_and_resolve_references()
    config.workdir = str(tmp_path / "run")
    config.generate.update(changes)
    shutil.copytree(trained.workdir, tmp_path / "run")
    assert main.run(config, "generate") == exit_status.INTERRUPTED
    assert list((tmp_path / "run" / "parts").iterdir())
    made = generated(trained, tmp_path / "run", copied=False, **changes)
    assert made == layered


def test_a_file_gets_the_same_masks(trained, layered, tmp_path):
    data = Path(trained.data.train).parent
    task = Task(
        source=data / "annotations.json",
        images=data / "images",
        model=trained.workdir,
        out=tmp_path / "masks.json",
        given={"generate.layers": True},
    )
    predict_file(task)
    assert masks(task.out) == layered


def test_a_rival_whose_image_is_gone_claims_nothing(trained, tmp_path):
    shutil.copytree(trained.workdir, tmp_path / "run")
    config = trained.copy_and_resolve_references()
    config.workdir, config.generate.layers = str(tmp_path / "run"), True
    picture = Path(trained.data.images) / "3.png"
    hidden = picture.rename(picture.with_suffix(".gone"))
    try:
        assert main.run(config, "generate") == exit_status.OK
    finally:
        hidden.rename(picture)
    made = masks(tmp_path / "run" / "pseudo_masks.json")
    assert {key // 10 for key in made} == set(range(NUM_IMAGES)) - {3}
    skipped = json.loads((tmp_path / "run" / "skipped.json").read_text())
    assert [reason["id"] // 10 for reason in skipped] == [3] * PER_IMAGE
