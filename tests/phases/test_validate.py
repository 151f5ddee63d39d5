"""Phase validate: what it prints and writes, and that it changes nothing else."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import custom
from exits_jax import exit_status
from exits_jax.validation.codes import CODES
from tests.support import toy, validation


@pytest.fixture
def folder(tmp_path):
    toy.write_dataset(tmp_path)
    return tmp_path


def spoil(folder, **changes):
    """Changes fields of the record with the id 30, or, as `image`, of its image."""
    source = json.loads((folder / "annotations.json").read_text())
    source["annotations"][4].update(changes)
    toy.write_annotations(folder, source)


def count_in(said, name):
    (line,) = re.findall(rf"^ +{name} +(\d+)", said, re.MULTILINE)
    return int(line)


def test_a_clean_data_set_is_called_clean(folder, capsys):
    config = toy.config_for(folder, folder / "run")
    assert validation.run(config, "validate") == exit_status.OK
    said = capsys.readouterr().err
    assert count_in(said, "images") == 8
    assert count_in(said, "without annotations") == 0
    assert count_in(said, "annotations") == count_in(said, "usable annotations") == 16
    assert count_in(said, "with masks") == count_in(said, "with extreme points") == 16
    assert count_in(said, "with a box only") == count_in(said, "crowd regions") == 0
    assert "problems" not in said and "remarks" not in said
    assert said.rstrip().endswith("train: all 16 annotations can be used.")


def test_the_right_image_folder_is_named(folder, capsys):
    config = toy.config_for(folder, folder / "run", data__images=str(folder))
    assert validation.run(config, "validate") == exit_status.BAD_INPUT
    said = capsys.readouterr().err
    assert f"0 of 8 images found in {folder}; {folder / 'images'} has them" in said


def test_objects_too_small_to_train_on_are_counted(folder, capsys):
    config = toy.config_for(folder, folder / "run", data__min_area_px=1000.0)
    assert validation.run(config, "validate") == exit_status.OK
    said = capsys.readouterr().err
    source = json.loads((folder / "annotations.json").read_text())
    areas = [np.prod(record["bbox"][2:]) for record in source["annotations"]]
    expected = sum(area <= 1000 for area in areas)
    assert 0 < expected < 16
    assert count_in(said, "too small to train on") == expected
    boxes = validation.report(folder / "run")["boxes"]
    assert boxes["left_out_of_training"] == expected
    sides = lambda name: boxes[name]["width"] * boxes[name]["height"]
    assert (sides("smallest"), sides("largest")) == (min(areas), max(areas))
    assert sides("smallest") < sides("median") < sides("largest")


def test_the_table_says_what_is_wrong_and_gives_the_first_case(folder, capsys):
    spoil(folder, category_id=9)
    (folder / "images" / "0005.jpg").unlink()
    config = toy.config_for(folder, folder / "run")
    assert validation.run(config, "validate") == exit_status.OK
    said = capsys.readouterr().err
    lines = said.splitlines()
    place = next(k for k, line in enumerate(lines) if line.startswith("  E108"))
    assert re.match(rf"  E108 +1 annotation +{CODES['E108']}$", lines[place])
    assert "first: Annotation 30: category_id 9 is not among" in lines[place + 1]
    assert any(re.match(r"  E111 +2 annotations +the image file", x) for x in lines)
    assert " ".join(said.rpartition("train: ")[2].split()) == (
        "13 of 16 annotations can be used; the other 3 (18.8 %) will be left out, "
        "within data.max_skip_fraction = 0.5."
    )


def test_a_training_split_of_small_objects_alone_is_told_so(folder, capsys):
    config = toy.config_for(folder, folder / "run", data__min_area_px=2000.0)
    assert validation.run(config, "validate") == exit_status.OK
    said = " ".join(capsys.readouterr().err.split())
    assert "None of the 16 objects is large enough to train on" in said


def test_the_report_holds_every_id(folder):
    spoil(folder, category_id=9)
    (folder / "images" / "0005.jpg").unlink()
    (folder / "images" / "0006.jpg").rename(folder / "images" / "6.png")
    path = folder / "images" / "0007.jpg"
    Image.open(path).convert("RGBA").save(folder / "a.png")
    os.replace(folder / "a.png", path)
    config = toy.config_for(folder, folder / "run")
    assert validation.run(config, "validate") == exit_status.OK
    found = validation.report(folder / "run")
    assert {(p["annotation_id"], p["code"]) for p in found["problems"]} == {
        (30, "E108"),
        *((number, "E111") for number in (50, 51, 60, 61)),
    }
    assert all(problem["message"] for problem in found["problems"])
    (remark,) = found["remarks"]
    assert remark == {
        "code": "W118",
        "meaning": CODES["W118"],
        "count": 1,
        "images": [str(path)],
    }
    assert found["annotations"] == str(folder / "annotations.json")
    assert found["images"] == str(folder / "images")
    assert found["counts"]["usable"] == 11


def test_nothing_is_prepared(folder):
    config = toy.config_for(folder, folder / "run")
    before = (folder / "annotations.json").read_bytes()
    assert validation.run(config, "validate") == exit_status.OK
    made = {p.name for p in (folder / "run").iterdir() if p.name != ".lock"}
    assert made <= {"validation", "log.txt", "config.json", "environment.json"}
    assert (folder / "annotations.json").read_bytes() == before
    assert not toy.leftovers(folder / "run")


def test_preparing_afterwards_works_in_the_same_folder(folder):
    config = toy.config_for(folder, folder / "run")
    assert validation.run(config, "validate") == exit_status.OK
    assert validation.run(config, "prepare") == exit_status.OK
    assert validation.run(config, "validate") == exit_status.OK


@pytest.mark.parametrize("on_bad", ["skip", "error"])
def test_validate_and_prepare_agree(folder, on_bad):
    spoil(folder, category_id=9)
    for limit in (0.0, 0.5):
        statuses = []
        for phase in ("validate", "prepare"):
            config = toy.config_for(
                folder,
                folder / f"{phase}{limit}",
                data__on_bad=on_bad,
                data__max_skip_fraction=limit,
            )
            statuses.append(validation.run(config, phase))
        assert statuses[0] == statuses[1]


def test_the_report_is_written_although_too_much_is_bad(folder, capsys):
    spoil(folder, category_id=9)
    config = toy.config_for(folder, folder / "run", data__max_skip_fraction=0.0)
    said = validation.refused(config, "validate", exit_status.PARTIAL, capsys)
    assert "1 of 16 annotations (6.25 %) cannot be used, more than" in said
    assert len(validation.report(folder / "run")["problems"]) == 1
    assert (folder / "run" / "validation" / "train_sheet.png").exists()


def test_a_report_never_outlives_its_file(folder, capsys):
    spoil(folder, category_id=9)
    config = toy.config_for(folder, folder / "run")
    assert validation.run(config, "validate") == exit_status.OK
    assert (folder / "run" / "validation" / "train_sheet.png").exists()
    (folder / "annotations.json").write_text("[]")
    validation.refused(config, "validate", exit_status.BAD_INPUT, capsys)
    assert list((folder / "run" / "validation").iterdir()) == []


def test_both_splits_are_reported_before_one_is_refused(folder, capsys):
    good = json.loads((folder / "annotations.json").read_text())
    (folder / "val.json").write_text(json.dumps(good))
    spoil(folder, category_id=9)
    config = toy.config_for(
        folder,
        folder / "run",
        data__val=str(folder / "val.json"),
        data__max_skip_fraction=0.0,
    )
    said = validation.refused(config, "validate", exit_status.PARTIAL, capsys)
    assert "val: all 16 annotations can be used" in said
    assert len(validation.report(folder / "run", "train")["problems"]) == 1
    assert validation.report(folder / "run", "val")["problems"] == []


def test_the_sheet_shows_what_is_odd_and_only_where_it_can_be_opened(folder):
    spoil(folder, category_id=9)
    (folder / "images" / "0005.jpg").unlink()
    config = toy.config_for(folder, folder / "run")
    assert validation.run(config, "validate") == exit_status.OK
    with Image.open(folder / "run" / "validation" / "train_sheet.png") as sheet:
        pixels = np.asarray(sheet).astype(int)
    red = np.abs(pixels - (226, 52, 63)).max(axis=-1) < 12
    assert red.sum() > 100  # four clicks
    badges = np.abs(pixels - (200, 36, 52)).max(axis=-1) < 3
    left, right = np.flatnonzero(badges.any(axis=0))[[0, -1]]
    assert right - left < 60  # one record alone


def test_without_odd_records_there_is_no_sheet(folder, capsys):
    config = toy.config_for(folder, folder / "run")
    assert validation.run(config, "validate") == exit_status.OK
    assert "pictures:" not in capsys.readouterr().err
    names = [path.name for path in (folder / "run" / "validation").iterdir()]
    assert names == ["train.json"]


def test_fields_that_are_needed_are_named(folder, capsys):
    config = toy.config_for(folder, folder / "run", data__train="")
    said = validation.refused(config, "validate", exit_status.USAGE, capsys)
    assert "--config.data.train=FILE" in said


@pytest.mark.parametrize("field", ["data__train", "data__images"])
def test_what_does_not_exist_is_named(folder, capsys, field):
    config = toy.config_for(folder, folder / "run", **{field: str(folder / "no")})
    said = validation.refused(config, "validate", exit_status.BAD_INPUT, capsys)
    assert f"{folder / 'no'} does not exist" in said


def test_the_page_on_checks_has_every_code_in_the_same_words():
    page = (toy.ROOT / "docs" / "checks.md").read_text()
    rows = dict(re.findall(r"^\| ([EW]\d{3}) \| (.*?) \|", page, re.MULTILINE))
    assert rows.keys() >= CODES.keys()
    assert {code: rows[code] for code in CODES} == CODES


@pytest.mark.skipif(not os.environ.get("EXITS_DATA"), reason="EXITS_DATA is not set")
@pytest.mark.parametrize("name", ["train", "val"])
def test_real_photographs_have_no_problem(tmp_path, capsys, name):
    data = Path(os.environ["EXITS_DATA"]) / "coco_mini"
    config = custom.get_config()
    config.workdir = str(tmp_path / "run")
    config.data.train = str(data / "annotations" / f"{name}.json")
    config.data.images = str(data / "images")
    assert validation.run(config, "validate") == exit_status.OK
    said = capsys.readouterr().err
    assert "objects can be used" in said and "problems" not in said
    found = validation.report(tmp_path / "run")
    counts = found["counts"]
    assert counts["points_from_masks"] + counts["crowds"] == counts["annotations"]
    assert (tmp_path / "run" / "validation" / "train_sheet.png").exists()
