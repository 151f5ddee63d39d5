"""Bad input: refused with a message that names it, or skipped with a reason."""

import json
import re
import shutil

import pytest
from PIL import Image

from exits_jax import exit_status, main
from exits_jax.data.coco_file import ById, CocoFile
from exits_jax.data.records import AnnotationError, Problem
from exits_jax.labeling.pseudo_masks import write_coco
from exits_jax.phases.prepare import check_split
from exits_jax.run.prepared import read_problems
from exits_jax.run.workdir import Workdir
from tests.support import toy


@pytest.fixture
def folder(tmp_path):
    toy.write_dataset(tmp_path)
    return tmp_path


def _source(folder):
    return json.loads((folder / "annotations.json").read_text())


def _truncate(path):
    path.write_bytes(path.read_bytes()[:400])


def _missing_image(folder):
    (folder / "images" / "0003.jpg").unlink()


def _truncated_image(folder):
    _truncate(folder / "images" / "0003.jpg")


def _image_of_another_size(folder):
    Image.new("RGB", (40, 30)).save(folder / "images" / "0003.jpg")


def _record(**fields):
    def change(folder):
        source = _source(folder)
        record = next(r for r in source["annotations"] if r["id"] == 30)
        for name, value in fields.items():
            if value is None:
                del record[name]
            else:
                record[name] = value
        toy.write_annotations(folder, source)

    return change


NO_AREA = _record(extreme_points=None, segmentation=None, bbox=[5, 5, 0, 20])
OUTSIDE = _record(extreme_points=[[24, 10], [5, 30], [24, 400], [40, 30]])
BAD = {
    "missing image": (_missing_image, {30, 31}, "0003.jpg"),
    "truncated image": (_truncated_image, {30, 31}, "0003.jpg"),
    "size": (_image_of_another_size, {30, 31}, "40x30 px.*96x80"),
    "box without area": (NO_AREA, {30}, r"Annotation 30: bbox .*no area"),
    "point outside": (OUTSIDE, {30}, r"Annotation 30: the bottom .*outside its 96x80"),
    "repeated id": (_record(id=20), {20}, r"Annotation 20: .* repeats this id"),
    "category": (_record(category_id=9), {30}, "Annotation 30: category_id 9"),
    "numbers": (_record(bbox=["a", 0, 3, 3]), {30}, "Annotation 30: bbox.*four finite"),
}


def _refused(config, capsys, status=exit_status.BAD_INPUT):
    """Runs what must be refused; returns what was said."""
    assert main.run(config) == status
    said = capsys.readouterr().err
    assert said.count("error: ") == 1 and "Traceback" not in said
    return said


def _nothing_written(workdir):
    names = {path.name for path in workdir.rglob("*.json")}
    assert names <= {"config.json", "environment.json", "prepare.json"}
    assert not toy.leftovers(workdir)
    marker = workdir / "phases" / "prepare.json"
    assert not marker.exists() or json.loads(marker.read_text())["status"] == "running"


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_an_error_where_errors_are_asked_for(folder, capsys, name):
    spoil, _, message = BAD[name]
    spoil(folder)
    config = toy.config_for(folder, folder / "run", data__on_bad="error")
    said = _refused(config, capsys)
    assert re.search(message, said)
    assert "data.on_bad=skip" in said
    _nothing_written(folder / "run")


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_skipped_with_its_reason(folder, name):
    spoil, ids, message = BAD[name]
    spoil(folder)
    config = toy.config_for(folder, folder / "run")
    assert main.run(config, "prepare") == exit_status.OK
    skipped = json.loads((folder / "run/annotations/train_skipped.json").read_text())
    assert {entry["annotation_id"] for entry in skipped} == ids
    assert all(re.search(message, entry["message"]) for entry in skipped)
    left = json.loads((folder / "run/annotations/train.json").read_text())
    expected = 16 - len(skipped)
    assert len(left["annotations"]) == expected


def test_a_crowd_whose_polygons_have_no_frame_is_skipped(folder):
    source = _source(folder)
    record = source["annotations"][0]
    record |= {"iscrowd": 1, "segmentation": [[5, 5, 30, 5, 30, 30]]}
    image = next(i for i in source["images"] if i["id"] == record["image_id"])
    del image["height"], image["width"]
    toy.write_annotations(folder, source)
    assert main.run(toy.config_for(folder, folder / "run"), "prepare") == exit_status.OK
    skipped = json.loads(
        (folder / "run" / "annotations" / "train_skipped.json").read_text()
    )
    messages = {row["annotation_id"]: row["message"] for row in skipped}
    assert "polygons need the image's width, height" in messages[record["id"]]


def test_a_broken_mask_is_an_error_where_errors_are_asked_for(folder, capsys):
    _record(extreme_points=None, segmentation=[[1, 2, 3]])(folder)
    config = toy.config_for(folder, folder / "run", data__on_bad="error")
    said = _refused(config, capsys)
    assert "E212: Annotation 30" in said and "data.on_bad=skip" in said
    _nothing_written(folder / "run")


def test_too_many_bad_records_are_an_error_anyway(folder, capsys):
    for number in range(1, 7):
        (folder / "images" / f"000{number}.jpg").unlink()
    config = toy.config_for(folder, folder / "run")
    said = _refused(config, capsys, status=exit_status.PARTIAL)
    assert "12 of 16" in said and "max_skip_fraction = 0.5" in said
    _nothing_written(folder / "run")


WRONG_FILES = {
    "not JSON": ('{"images": [', "not JSON.*byte"),
    "results list": ("[]", "results file"),
    "not COCO": ('{"shapes": []}', "`images` is missing; expected a list"),
    "no annotation": (
        '{"images": [], "annotations": [], "categories": []}',
        "holds no annotation",
    ),
    "empty": ("", "not JSON"),
}


@pytest.mark.parametrize("name", WRONG_FILES)
@pytest.mark.parametrize("on_bad", ["skip", "error"])
def test_a_file_that_holds_no_instances_is_refused(folder, capsys, name, on_bad):
    text, message = WRONG_FILES[name]
    (folder / "annotations.json").write_text(text)
    config = toy.config_for(folder, folder / "run", data__on_bad=on_bad)
    said = _refused(config, capsys)
    assert "annotations.json" in said and re.search(message, said)
    _nothing_written(folder / "run")


def test_a_file_without_annotations_has_its_code(folder):
    path = folder / "annotations.json"
    path.write_text('{"images": [], "annotations": [], "categories": []}')
    config = toy.config_for(folder, folder / "run")
    with pytest.raises(AnnotationError, match="holds no annotation") as caught:
        check_split(config, path, folder / "images", "train")
    assert [problem.code for problem in caught.value.problems] == ["E103"]


def test_a_missing_annotation_file_is_named(folder, capsys):
    config = toy.config_for(folder, folder / "run", data__train=str(folder / "no.json"))
    assert f"{folder / 'no.json'} does not exist" in _refused(config, capsys)
    _nothing_written(folder / "run")


def test_a_missing_image_folder_is_named(folder, capsys):
    config = toy.config_for(folder, folder / "run", data__images=str(folder / "no"))
    assert f"{folder / 'no'} does not exist" in _refused(config, capsys)
    _nothing_written(folder / "run")


def test_an_image_folder_one_level_too_high_is_answered_in_one_line(folder, capsys):
    config = toy.config_for(folder, folder / "run", data__images=str(folder))
    said = _refused(config, capsys)
    assert said.endswith(
        f": 0 of 8 images found in {folder}; {folder / 'images'} has them: "
        f"--config.data.images={folder / 'images'}\n"
    )
    _nothing_written(folder / "run")


def test_a_folder_in_front_of_the_names_and_in_data_images_is_found_out(folder, capsys):
    source = _source(folder)
    for image in source["images"]:
        image["file_name"] = f"images/{image['file_name']}"
    toy.write_annotations(folder, source)
    said = _refused(toy.config_for(folder, folder / "run"), capsys)
    assert f"; {folder} has them: --config.data.images={folder}" in said


def test_the_folder_of_the_second_split_has_a_field_of_its_own(folder, capsys):
    changes = {"data__val": str(folder / "annotations.json")}
    changes["data__val_images"] = str(folder)
    said = _refused(toy.config_for(folder, folder / "run", **changes), capsys)
    assert f"--config.data.val_images={folder / 'images'}" in said


def test_a_folder_with_more_of_the_images_is_named_beside_the_reasons(folder, capsys):
    more = folder / "images" / "more"
    more.mkdir()
    for number in range(1, 6):
        (folder / "images" / f"000{number}.jpg").rename(more / f"000{number}.jpg")
    config = toy.config_for(folder, folder / "run")
    said = _refused(config, capsys, exit_status.PARTIAL)
    assert f"3 of 8 images found in {folder / 'images'}; {more} has 5." in said


def test_fields_that_are_needed_are_named(folder, capsys):
    config = toy.config_for(folder, folder / "run", data__train="")
    assert "--config.data.train=FILE" in _refused(config, capsys, exit_status.USAGE)


def test_a_bad_second_split_leaves_nothing_of_the_first(folder, capsys):
    (folder / "val.json").write_text("[]")
    config = toy.config_for(folder, folder / "run", data__val=str(folder / "val.json"))
    assert "val.json" in _refused(config, capsys)
    _nothing_written(folder / "run")


def test_a_repaired_input_is_taken_by_the_same_command(folder, capsys):
    good = (folder / "annotations.json").read_text()
    (folder / "annotations.json").write_text(good[:100])
    config = toy.config_for(folder, folder / "run")
    _refused(config, capsys)
    (folder / "annotations.json").write_text(good)
    assert main.run(config, "prepare") == exit_status.OK


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_images_are_accepted(folder, mode):
    path = folder / "images" / "0003.jpg"
    Image.open(path).convert(mode).save(path)
    config = toy.config_for(folder, folder / "run", data__on_bad="error")
    assert main.run(config, "prepare") == exit_status.OK


@pytest.fixture(scope="module")
def patched_run(tmp_path_factory):
    """All phases on a data set with every kind of fault, under on_bad=skip."""
    folder = tmp_path_factory.mktemp("patched")
    source = toy.write_dataset(folder, num_images=16)
    records = {record["id"]: record for record in source["annotations"]}
    records[10]["segmentation"] = [[1, 2, 3]]  # a broken mask; its points are good
    records[20]["segmentation"] = [[1, 2, 3]]  # ... and here its box is
    del records[20]["extreme_points"]
    records[30]["category_id"] = 9
    records[40]["id"] = 41  # that id comes again
    records[50]["iscrowd"] = 1
    records[60] |= {"iscrowd": 1, "segmentation": []}
    source["annotations"].append("not a record")
    toy.write_annotations(folder, source)
    (folder / "images" / "0007.jpg").unlink()
    _truncate(folder / "images" / "0008.jpg")
    for number, mode in ((9, "L"), (10, "CMYK")):
        path = folder / "images" / f"{number:04d}.jpg"
        Image.open(path).convert(mode).save(path)
    config = toy.config_for(folder, folder / "run", warmup__steps=1, train__steps=1)
    assert main.run(config) == exit_status.OK
    return folder


def test_a_run_with_skipped_records_accounts_for_every_annotation(patched_run):
    made = json.loads((patched_run / "run" / "pseudo_masks.json").read_text())
    reasons = json.loads((patched_run / "run" / "skipped.json").read_text())
    labeled = [record["id"] for record in made["annotations"]]
    skipped = {entry["id"] for entry in reasons}
    assert skipped == {None, 30, 41, 60, 70, 71, 80, 81}
    assert len(labeled) == len(set(labeled)) == 32 - 7
    assert {10, 20, 41, 50, 90, 100} <= set(labeled)
    assert all(entry["code"] and entry["message"] for entry in reasons)


def test_a_broken_true_mask_costs_no_object_its_pseudo_mask(patched_run):
    made = json.loads((patched_run / "run" / "pseudo_masks.json").read_text())
    by_id = {record["id"]: record for record in made["annotations"]}
    assert "counts" in by_id[20]["segmentation"]
    assert "box_only" in by_id[20]["exits"]["flags"]
    assert by_id[90]["kept_by_us"] == 9


def test_columns_that_are_gone_are_named(folder, capsys):
    config = toy.config_for(folder, folder / "run")
    assert main.run(config, "prepare") == exit_status.OK
    shutil.rmtree(folder / "run" / "annotations" / "train_columns")
    said = _refused(config, capsys, status=exit_status.BAD_INPUT)
    assert "train_columns" in said and "--redo=prepare" in said


@pytest.mark.parametrize("number", ["1e400", "9" * 5000])
def test_a_number_that_no_parser_takes_costs_its_record_alone(folder, number):
    path = folder / "annotations.json"
    text = path.read_text()
    path.write_text(text.replace('"kept_by_us": 8', f'"kept_by_us": {number}', 1))
    assert main.run(toy.config_for(folder, folder / "run"), "prepare") == exit_status.OK
    (problem,) = read_problems(Workdir(folder / "run"), "train")
    assert problem.code == "E101" and problem.annotation_id is None
    source = CocoFile.read(path)
    rows = ById(source.annotations, "segmentation")
    assert len(rows) == 15
    good = [k for k in range(16) if k != problem.position]
    names = {k: source.annotations[k]["id"] for k in good}
    outcomes = [(k, Problem(names.get(k), "", "")) for k in range(16)]
    write_coco(folder / "out", source, outcomes, {})
    assert len(json.loads((folder / "out" / "skipped.json").read_text())) == 16


def test_images_without_a_size_give_points_from_their_masks_all_the_same(folder):
    source = _source(folder)
    for record in source["annotations"]:
        del record["extreme_points"]
        record["segmentation"] = [[20, 20, 60, 20, 60, 50, 20, 50]]
    for image in source["images"]:
        del image["width"], image["height"]
    toy.write_annotations(folder, source)
    config = toy.config_for(folder, folder / "run", data__on_bad="error")
    assert main.run(config, "prepare") == exit_status.OK
    facts = json.loads((folder / "run" / "phases" / "prepare.json").read_text())
    assert facts["facts"]["counts"]["train"]["with_points"] == 16
