"""Every kind of bad annotation or image file, through `validate` and `prepare`.

The numbers name the rows of docs/bad_input.md. A
file is refused with a message that names it, or its records are left out with a code;
nothing is ever left half-written, and no connection is ever opened. What is accepted is
tested in `test_unusual_input`, and other rows where their readers are:

| row | what | tests |
| --- | --- | --- |
| B22, B23, B51 | CVAT: entities, zip archives, video, rotation | tests/importers |
| B43, B44 | Open Images: unclicked boxes, groups, depictions | tests/importers |
| B52, B53 | Label Studio, labelme | tests/importers |
| B50 | empty or full predicted masks | tests/labeling/test_pseudo_masks.py |
| B55 | weights | tests/convert_weights, tests/run/test_starting_weights.py |
| B56 | configurations | tests/run/test_check_config.py, tests/test_main.py |
"""

import pytest
from PIL import Image

from exits_jax import exit_status
from exits_jax.data import coco_file
from exits_jax.data.records import AnnotationError
from exits_jax.phases.prepare import check_split
from tests.data.test_images import HEIC, png_header
from tests.support import spoiled, toy, validation
from tests.support.spoiled import (
    BOX,
    CLICKS,
    bytes_of,
    change_file,
    change_image,
    change_records,
    link_outside,
    saved,
    write_image,
)

PHASES = ("validate", "prepare")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    spoiled.refuse_network(monkeypatch)
    toy.write_dataset(tmp_path)
    return tmp_path


# Files that are refused


def text(content):
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / "annotations.json").write_bytes(data)


def cut_short(folder):
    path = folder / "annotations.json"
    path.write_bytes(path.read_bytes()[:700])


def as_utf16(folder):
    path = folder / "annotations.json"
    path.write_text(path.read_text(), encoding="utf-16")


def without(key):
    return change_file(lambda source: source.pop(key) and None)


def with_value(key, value):
    return change_file(lambda source: source.update({key: value}))


DEEP = b"[" * 10**6 + b"]" * 10**6
REFUSED_FILES = {
    "B01 truncated": (cut_short, "E101", "is not JSON.*byte 700 of 700"),
    "B01 no JSON": (text("image,x,y\n"), "E101", "is not JSON.*byte 0 of 10"),
    "B01 not text": (text(b'{"a": "\xff"}'), "E101", "not UTF-8 text: byte 7"),
    "B02 UTF-16": (as_utf16, "E101", "looks like UTF-16.*save it as UTF-8"),
    "B03 results": (text('[{"image_id": 1}]'), "E102", "this is a results file"),
    "B04 missing": (without("annotations"), "E102", "`annotations` is missing"),
    "B04 null": (with_value("annotations", None), "E102", "`annotations` is null"),
    "B04 object": (with_value("annotations", {}), "E102", "`annotations` is empty"),
    "B04 no images": (without("images"), "E102", "`images` is missing"),
    "B05 empty": (with_value("annotations", []), "E103", "holds no annotation"),
    "B08 image ids": (change_image(2, id=1), "E106", "1 image ids occur more than"),
    "B21 nested": (text(DEEP), "E101", "cannot be parsed as JSON"),
    "B21 nested below": (
        text(b'{"images": [], "categories": [], "annotations": [' + DEEP + b"]}"),
        "E101",
        "cannot be parsed",
    ),
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", REFUSED_FILES)
def test_a_file_that_cannot_be_used_is_refused(folder, capsys, name, phase):
    spoil, code, words = REFUSED_FILES[name]
    spoil(folder)
    config = toy.config_for(folder, folder / "run")
    said = validation.refused(config, phase, exit_status.BAD_INPUT, capsys)
    assert str(folder / "annotations.json") in said
    with pytest.raises(AnnotationError, match=words) as caught:
        check_split(config, folder / "annotations.json", folder / "images")
    assert caught.value.problems[0].code == code
    assert str(caught.value) in said
    validation.nothing_prepared(folder / "run")
    assert not (folder / "run" / "validation" / "train.json").exists()


@pytest.mark.parametrize("phase", PHASES)
def test_b21_a_file_of_too_many_bytes_is_not_read(folder, capsys, monkeypatch, phase):
    monkeypatch.setattr(coco_file, "MAX_BYTES", 1000)
    config = toy.config_for(folder, folder / "run")
    said = validation.refused(config, phase, exit_status.BAD_INPUT, capsys)
    assert f"{folder / 'annotations.json'} has" in said and "Split it" in said
    validation.nothing_prepared(folder / "run")


# Records and images that are left out


def remove_image(folder):
    (folder / "images" / "0003.jpg").unlink()


def cut_image(folder):
    path = folder / "images" / "0003.jpg"
    path.write_bytes(path.read_bytes()[:1200])


def repeat_id(source):
    source["annotations"][5]["id"] = 30  # the other object of the same image


def of_other_size(path, _):
    Image.new("RGB", (40, 30)).save(path)


WHOLE = {30, 31}  # the objects of image 3
BAD_RLE = {"size": [80, 96], "counts": "~~~"}


def mask_alone(segmentation):
    return change_records(30, bbox=..., extreme_points=..., segmentation=segmentation)


LEFT_OUT = {
    "B06 NaN in the box": (
        change_records(30, bbox=[float("nan"), 1, 2, 3]),
        {30: "E104"},
        "Annotation 30: bbox is .nan",
    ),
    "B06 infinity in the points": (
        change_records(30, extreme_points=[[float("inf"), 1], *CLICKS[1:]]),
        {30: "E104"},
        "Annotation 30: the top extreme point",
    ),
    "B06 text in the box": (
        change_records(30, bbox=["12", 1, 2, 3]),
        {30: "E104"},
        "Annotation 30: bbox is",
    ),
    "B07 repeated id": (
        change_file(repeat_id),
        {30: "E105"},
        "entry 5 repeats this id",
    ),
    "B07 no id": (change_records(30, id=...), {None: "E105"}, "Entry 4"),
    "B09 unknown image": (
        change_records(30, image_id=999),
        {30: "E107"},
        "Annotation 30: image_id 999",
    ),
    "B10 unknown category": (
        change_records(30, category_id=9),
        {30: "E108"},
        "Annotation 30: category_id 9",
    ),
    "B12 size of no number": (
        change_image(3, width="96"),
        dict.fromkeys(WHOLE, "E104"),
        "image 3 has the width '96'",
    ),
    "B13 another size": (
        write_image(3, "0003.png", of_other_size),
        dict.fromkeys(WHOLE, "E110"),
        "0003.png is 40x30 px, but the annotations say 96x80",
    ),
    "B14 missing image": (
        remove_image,
        dict.fromkeys(WHOLE, "E111"),
        "its file '0003.jpg' is missing",
    ),
    "B15 upwards": (
        change_image(3, file_name="../../etc/passwd"),
        dict.fromkeys(WHOLE, "E112"),
        "unsafe file name '../../etc/passwd'",
    ),
    "B15 absolute": (
        change_image(3, file_name="/etc/passwd"),
        dict.fromkeys(WHOLE, "E112"),
        "unsafe file name '/etc/passwd'",
    ),
    "B15 drive": (
        change_image(3, file_name="C:\\a.jpg"),
        dict.fromkeys(WHOLE, "E112"),
        "unsafe file name",
    ),
    "B15 link": (link_outside, dict.fromkeys(WHOLE, "E112"), "link that leads out"),
    "B16 URL": (
        change_image(3, file_name="http://169.254.169.254/latest"),
        dict.fromkeys(WHOLE, "E112"),
        "unsafe file name 'http://169.254.169.254/latest'",
    ),
    "B16 bucket": (
        change_image(3, file_name="gs://bucket/a.jpg"),
        dict.fromkeys(WHOLE, "E112"),
        "unsafe file name",
    ),
    "B17 NUL": (
        change_image(3, file_name="a\0.jpg"),
        dict.fromkeys(WHOLE, "E112"),
        r"unsafe file name 'a\\x00.jpg'",
    ),
    "B17 too long": (
        change_image(3, file_name="a" * 300 + ".jpg"),
        dict.fromkeys(WHOLE, "E111"),
        "is missing",
    ),
    "B17 lone surrogate": (
        change_image(3, file_name="\ud800.jpg"),
        dict.fromkeys(WHOLE, "E111"),
        r"'\\ud800.jpg' is missing",
    ),
    "B18 truncated": (
        cut_image,
        dict.fromkeys(WHOLE, "E113"),
        "0003.jpg is a damaged or truncated JPEG",
    ),
    "B19 empty": (
        write_image(3, "0003.png", bytes_of(b"")),
        dict.fromkeys(WHOLE, "E113"),
        r"0003.png is empty \(0 bytes\)",
    ),
    "B19 text": (
        write_image(3, "0003.png", bytes_of(b"<html>not found</html>")),
        dict.fromkeys(WHOLE, "E113"),
        "0003.png is not an image .*web page",
    ),
    "B20 bomb": (
        write_image(3, "0003.png", bytes_of(png_header(50_000, 50_000))),
        dict.fromkeys(WHOLE, "E114"),
        "0003.png claims more pixels",
    ),
    "B26 floating point": (
        write_image(3, "0003.tiff", saved("F")),
        dict.fromkeys(WHOLE, "E113"),
        "0003.tiff has floating point pixels",
    ),
    "B29 HEIC": (
        write_image(3, "0003.heic", bytes_of(HEIC)),
        dict.fromkeys(WHOLE, "E113"),
        "HEIC; convert it to JPEG or PNG",
    ),
    "B32 no width": (
        change_records(30, bbox=[5, 5, 0, 20], **BOX),
        {30: "E201"},
        "Annotation 30: bbox .* has no area",
    ),
    "B32 negative": (
        change_records(30, bbox=[5, 5, 10, -20], **BOX),
        {30: "E201"},
        "Annotation 30: bbox .* has no area",
    ),
    "B34 box outside": (
        change_records(30, bbox=[96, 10, 9, 9], **BOX),
        {30: "E203"},
        "Annotation 30: .* fully outside its 96x80 image",
    ),
    "B36 point outside": (
        change_records(30, extreme_points=[[24, -9], *CLICKS[1:]], bbox=...),
        {30: "E205"},
        r"Annotation 30: the top extreme point \(24, -9\) lies outside",
    ),
    "B39 three points": (
        change_records(30, extreme_points=CLICKS[:3], bbox=...),
        {30: "E207"},
        "Annotation 30: extreme_points is .*; expected four",
    ),
    "B39 five points": (
        change_records(30, extreme_points=[*CLICKS, [24, 40]]),
        {30: "E207"},
        "Annotation 30: extreme_points is .*; expected four",
    ),
    "B39 with visibility": (
        change_records(30, extreme_points=[[*click, 0] for click in CLICKS]),
        {30: "E207"},
        "Annotation 30: extreme_points is .*; expected four",
    ),
    "B40 all equal": (
        change_records(30, extreme_points=[[24, 20]] * 4, bbox=...),
        {30: "E201"},
        "Annotation 30: .* no extent",
    ),
    "B40 in a line": (
        change_records(30, extreme_points=[[10, 20], [5, 20], [9, 20], [30, 20]]),
        {30: "E201"},
        "Annotation 30: .* no extent in y",
    ),
    "B42 normalised": (
        change_records(
            30, extreme_points=[[x / 96, y / 80] for x, y in CLICKS], bbox=...
        ),
        {30: "E209"},
        "Annotation 30: .* look normalised to 0..1",
    ),
    "B42 transposed": (
        change_records(
            30,
            extreme_points=[[20, 64], [40, 50], [60, 64], [40, 80]],
            bbox=[50, 20, 31, 41],
        ),
        {30: "E209"},
        r"Annotation 30: .* only if read as \[y, x\]",
    ),
    "B42 percent": (
        change_records(
            30,
            extreme_points=[[50, 10], [5, 50], [50, 95], [95, 50]],
            bbox=[4, 8, 88, 69],
        ),
        {30: "E209"},
        "Annotation 30: .* only if read as percent",
    ),
    "B46 another size": (
        mask_alone({"size": [96, 80], "counts": [7680]}),
        {30: "E211"},
        r"Annotation 30: its RLE has the size \[96, 80\]",
    ),
    "B46 wrong sum": (
        mask_alone({"size": [80, 96], "counts": [5, 5]}),
        {30: "E211"},
        "Annotation 30: its RLE counts sum to 10; expected 7680",
    ),
    "B46 negative": (
        mask_alone({"size": [80, 96], "counts": [7690, -10]}),
        {30: "E211"},
        "Annotation 30: its RLE counts",
    ),
    "B46 no counts": (
        mask_alone({"size": [80, 96]}),
        {30: "E211"},
        "Annotation 30: its RLE counts are None",
    ),
    "B46 junk": (mask_alone(BAD_RLE), {30: "E211"}, "Annotation 30: its RLE counts"),
    "B47 two vertices": (
        mask_alone([[1, 2, 30, 40]]),
        {30: "E212"},
        "Annotation 30: polygon 1 of 1 .* has 4 numbers",
    ),
    "B47 odd length": (
        mask_alone([[1, 2, 30, 40, 5]]),
        {30: "E212"},
        "Annotation 30: polygon 1 of 1 .* has 5 numbers",
    ),
    "B47 NaN": (
        mask_alone([[1, 2, float("nan"), 40, 5, 6]]),
        {30: "E212"},
        "Annotation 30: polygon 1 of 1 .* not finite",
    ),
    "B47 no mask": (
        mask_alone([]),
        {30: "E207"},
        "Annotation 30 has neither extreme_points nor bbox",
    ),
    "B49 empty mask": (
        mask_alone({"size": [80, 96], "counts": [7680]}),
        {30: "E213"},
        "Annotation 30: its mask is empty",
    ),
    "B45 crowd without a mask": (
        change_records(30, iscrowd=1, segmentation=[]),
        {30: "E207"},
        "Annotation 30: this crowd region has no usable mask",
    ),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_bad_record_is_left_out_with_its_reason(folder, capsys, name):
    spoil, expected, words = LEFT_OUT[name]
    spoil(folder)
    config = toy.config_for(folder, folder / "run", data__points="clean")
    assert validation.run(config, "validate") == exit_status.OK
    said = capsys.readouterr().err
    found = validation.report(folder / "run")["problems"]
    assert {row["annotation_id"]: row["code"] for row in found} == expected
    assert all(pytest_matches(words, row["message"]) for row in found)
    assert f"{16 - len(found)} of 16 annotations can be used; the other" in said
    assert not (folder / "run" / "annotations").exists()
    assert validation.run(config, "prepare") == exit_status.OK
    assert dict(validation.skipped(folder / "run")) == expected
    assert len(validation.prepared(folder / "run")["annotations"]) == 16 - len(found)
    validation.nothing_half_written(folder / "run")


def pytest_matches(words, message):
    """Whether pytest's own rule finds the words; says what it found instead."""
    with pytest.raises(ValueError, match=words):
        raise ValueError(message)
    return True


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", LEFT_OUT)
def test_where_errors_are_asked_for_a_bad_record_is_one(folder, capsys, name, phase):
    spoil, _, words = LEFT_OUT[name]
    spoil(folder)
    changes = {"data__points": "clean", "data__on_bad": "error"}
    config = toy.config_for(folder, folder / "run", **changes)
    said = validation.refused(config, phase, exit_status.BAD_INPUT, capsys)
    assert "data.on_bad=skip" in said
    assert str(folder / "annotations.json") in said
    validation.nothing_prepared(folder / "run")
    if phase == "validate":  # the report stands, whatever it says
        assert validation.report(folder / "run")["problems"]
    else:
        assert pytest_matches(words, said)


@pytest.mark.parametrize("phase", PHASES)
def test_more_bad_records_than_allowed_have_a_status_of_their_own(
    folder, capsys, phase
):
    remove_image(folder)
    config = toy.config_for(folder, folder / "run", data__max_skip_fraction=0.1)
    said = validation.refused(config, phase, exit_status.PARTIAL, capsys)
    assert "2 of 16" in said and "max_skip_fraction = 0.1" in said
    validation.nothing_prepared(folder / "run")


# Records that are used without their mask

DAMAGED = {
    "B46": (BAD_RLE, "E211"),
    "B47": ([[1, 2, 3, 4]], "E212"),
    "B49": ({"size": [80, 96], "counts": [7680]}, "E213"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_record_with_a_broken_mask_is_used_by_its_box(folder, name):
    segmentation, code = DAMAGED[name]
    change_records(30, extreme_points=..., segmentation=segmentation)(folder)
    config = toy.config_for(folder, folder / "run", data__points="clean")
    assert validation.run(config, "validate") == exit_status.OK
    found = validation.report(folder / "run")
    assert found["problems"] == []
    assert [row["code"] for row in found["damaged_masks"]] == [code]
    assert "It keeps only its box" in found["damaged_masks"][0]["message"]
    assert validation.run(config, "prepare") == exit_status.OK
    assert validation.skipped(folder / "run") == []
    assert len(validation.prepared(folder / "run")["annotations"]) == 16
