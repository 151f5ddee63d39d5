"""Unusual annotation and image files that are accepted, perhaps with a remark.

The numbers are those of `test_bad_input`, which holds what is refused or left out.
"""

import codecs
import json
import re
import tracemalloc
import unicodedata

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from exits_jax import exit_status
from exits_jax.data import crops
from tests.support import spoiled, toy, validation
from tests.support.spoiled import (
    BOX,
    CLICKS,
    both,
    change_file,
    change_image,
    change_records,
    link_outside,
    saved,
    write_image,
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    spoiled.refuse_network(monkeypatch)
    toy.write_dataset(tmp_path)
    return tmp_path


def with_mark(folder):
    path = folder / "annotations.json"
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())


def same_image_twice(source):
    source["images"][3]["file_name"] = source["images"][2]["file_name"]


def odd_category_ids(source):
    names = {1: "zero", 2: 0}
    for category in source["categories"]:
        category["id"] = names[category["id"]]
    for record in source["annotations"]:
        record["category_id"] = names[record["category_id"]]


def rename(name):
    def spoil(folder):
        target = folder / "images" / name
        target.parent.mkdir(exist_ok=True)
        (folder / "images" / "0003.jpg").rename(target)
        change_image(3, file_name=name)(folder)

    return spoil


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return write_image(3, "turned.jpg", saved(exif=exif))


def animated(path, pixels):
    pixels.save(path, save_all=True, append_images=[Image.new("RGB", pixels.size)])


def sixteen_bits(path, pixels):
    values = np.asarray(pixels.convert("L")).astype(np.uint16) * 257
    Image.fromarray(values).save(path)


def thin_image(width, height):
    """An image of one row or column, whose two objects are whole and half of it."""
    box = [0, 0, width, height]
    half = [0, 0, max(width // 2, 1), max(height // 2, 1)]
    return both(
        write_image(
            3, "0003.png", lambda path, _: Image.new("RGB", (width, height)).save(path)
        ),
        change_image(3, width=width, height=height),
        change_records(30, bbox=box, **BOX),
        change_records(31, bbox=half, **BOX),
    )


def crowd_runs(source):
    mask = np.zeros((80, 96), np.uint8)
    mask[10:20, 10:20] = 1
    pixels = mask.T.ravel()
    edges = np.flatnonzero(np.diff(pixels, prepend=0, append=pixels[-1]))
    runs = np.diff([0, *edges, pixels.size]).tolist()
    source["annotations"][4] |= {
        "iscrowd": 1,
        "segmentation": {"size": [80, 96], "counts": runs},
    }
    del source["annotations"][4]["extreme_points"]


def parted(parts):
    squares = [[10 * k, 20, 10 * k + 6, 20, 10 * k + 6, 50, 10 * k, 50] for k in parts]
    return change_records(
        30,
        extreme_points=...,
        segmentation=squares,
        bbox=[10, 20, 10 * parts[-1] - 4, 30],
    )


def lvis(source):
    for image in source["images"]:
        image["coco_url"] = f"http://images.example.org/val/{image.pop('file_name')}"
        image |= {"neg_category_ids": [2], "not_exhaustive_category_ids": []}


ACCEPTED = {
    "B02 byte order mark": (with_mark, set()),
    "B08 one file of two images": (change_file(same_image_twice), {"W106"}),
    "B11 ids of any kind": (change_file(odd_category_ids), set()),
    "B12 no size": (change_image(3, width=..., height=...), {"W109"}),
    "B17 emoji": (rename("sub/ü 😀.jpg"), set()),
    "B17 decomposed": (rename(unicodedata.normalize("NFD", "é.jpg")), set()),
    "B17 line break": (rename("a\n\x1b[31mb.jpg"), set()),
    "B24 grey": (write_image(3, "0003.png", saved("L")), set()),
    "B24 one bit": (write_image(3, "0003.png", saved("1")), set()),
    "B24 grey with alpha": (write_image(3, "0003.png", saved("LA")), {"W118"}),
    "B25 CMYK": (write_image(3, "0003.jpg", saved("CMYK")), set()),
    "B26 16 bits PNG": (write_image(3, "0003.png", sixteen_bits), {"W117"}),
    "B26 16 bits TIFF": (write_image(3, "0003.tiff", sixteen_bits), {"W117"}),
    "B27 RGBA": (write_image(3, "0003.png", saved("RGBA")), {"W118"}),
    "B27 palette": (write_image(3, "0003.png", saved("P", transparency=0)), {"W118"}),
    "B28 mirrored": (turned(2), {"W119"}),
    "B28 turned": (turned(6), {"W119"}),
    "B28 upright": (turned(1), set()),
    "B29 animation": (write_image(3, "0003.webp", animated), {"W120"}),
    "B29 GIF": (write_image(3, "0003.gif", animated), {"W120"}),
    "B29 pages": (write_image(3, "0003.tiff", animated), {"W120"}),
    "B30 one pixel": (thin_image(1, 1), {"W210"}),
    "B30 one column": (thin_image(1, 40), {"W210"}),
    "B30 one row": (thin_image(40, 1), {"W210"}),
    "B33 box cut": (
        change_records(30, bbox=[-5, 10, 40, 40], **BOX),
        {"W202", "W210"},
    ),
    "B35 a pixel outside": (
        change_records(
            31, extreme_points=[[70, 20], [50, 40], [70, 60], [96, 40]], bbox=...
        ),
        {"W204"},
    ),
    "B37 another order": (
        change_records(30, extreme_points=CLICKS[::-1], bbox=...),
        {"W206"},
    ),
    "B38 one click for two sides": (
        change_records(
            30, extreme_points=[[10, 20], [10, 20], [40, 60], [40, 60]], bbox=...
        ),
        set(),
    ),
    "B41 points and box apart": (
        change_records(30, extreme_points=CLICKS, bbox=[10, 20, 31, 55]),
        {"W208"},
    ),
    "B45 crowd with run lengths": (change_file(crowd_runs), set()),
    "B47 empty list": (change_records(30, segmentation=[]), set()),
    "B48 two parts": (parted([1, 3]), set()),
    "B48 four parts": (parted([1, 2, 4, 6]), set()),
    "B54 LVIS": (change_file(lvis), set()),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_unusual_input_is_accepted_with_its_remark(folder, capsys, name):
    change, codes = ACCEPTED[name]
    change(folder)
    changes = {"data__points": "clean", "data__on_bad": "error"}
    config = toy.config_for(folder, folder / "run", **changes)
    assert validation.run(config, "validate") == exit_status.OK
    said = capsys.readouterr().err
    found = validation.report(folder / "run")
    assert {remark["code"] for remark in found["remarks"]} == codes
    assert all(f"  {code}  " in said for code in codes)
    assert found["problems"] == [] and re.search(
        r"all 1[56] (annotations|objects) can be used", said
    )
    assert "\x1b" not in said
    assert validation.run(config, "prepare") == exit_status.OK
    assert validation.skipped(folder / "run") == []
    source = json.loads((folder / "annotations.json").read_bytes().decode("utf-8-sig"))
    made = validation.prepared(folder / "run")
    assert made["images"] == source["images"]
    assert made["categories"] == source["categories"]
    for record, original in zip(
        made["annotations"], source["annotations"], strict=True
    ):
        kept = original.keys() - {"segmentation"}
        assert {key: record[key] for key in kept} == {k: original[k] for k in kept}
    validation.nothing_half_written(folder / "run")


def test_b15_a_link_that_leads_out_is_followed_where_that_is_asked_for(folder):
    link_outside(folder)
    changes = {"data__follow_links": True, "data__on_bad": "error"}
    config = toy.config_for(folder, folder / "run", **changes)
    assert validation.run(config, "validate") == exit_status.OK
    assert validation.run(config, "prepare") == exit_status.OK


def test_b48_points_of_several_parts_span_all_of_them(folder):
    parted([1, 3])(folder)
    config = toy.config_for(folder, folder / "run", data__points="clean")
    assert validation.run(config, "prepare") == exit_status.OK
    by_id = {r["id"]: r for r in validation.prepared(folder / "run")["annotations"]}
    xs, ys = zip(*by_id[30]["extreme_points"])
    mask = coco_mask.frPyObjects([[10, 20, 16, 20, 16, 50, 10, 50]], 80, 96)
    left, top, *_ = coco_mask.toBbox(coco_mask.merge(mask))
    assert (min(xs), min(ys), max(xs)) == (left, top, left + 25)


def test_b31_a_small_object_in_a_huge_image_takes_little_memory():
    image = np.zeros((8_000, 12_000, 3), np.uint8)
    window = crops.crop_window((6_000, 4_000, 6_002, 4_002), (0.3, 0.3, 0.3, 0.3))
    tracemalloc.start()
    try:
        assert crops.crop_image(image, window, 64).shape == (64, 64, 3)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.slow
def test_b31_a_huge_image_is_accepted(folder):
    huge = lambda path, _: Image.new("1", (12_000, 8_000)).save(path)
    both(
        write_image(3, "0003.png", huge),
        change_image(3, width=12_000, height=8_000),
        change_records(30, bbox=[6_000, 4_000, 2, 2], **BOX),
        change_records(31, bbox=[6_000, 4_000, 3_000, 2_000], **BOX),
    )(folder)
    config = toy.config_for(folder, folder / "run", data__on_bad="error")
    assert validation.run(config, "validate") == exit_status.OK
    assert validation.run(config, "prepare") == exit_status.OK
    assert (folder / "run" / "validation" / "train_sheet.png").exists()
