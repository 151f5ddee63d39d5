import json

import pytest

from exits_jax.exporters import formats, report
from exits_jax.exporters.report import Report
from tests.support import drawn_masks


def dataset():
    """Objects, a crowd region and records that cannot be used."""
    source = drawn_masks.content(drawn_masks.OBJECTS.values())
    source["annotations"] += [
        drawn_masks.crowd(50, drawn_masks.disc(40, 30, 12)),
        {"id": 60, "image_id": 7, "category_id": 9, "segmentation": {"size": [1]}},
        {"id": 61, "image_id": 99, "category_id": 9},
        {"id": 1, "image_id": 7, "category_id": 9},
        "no record",
    ]
    return source


@pytest.mark.parametrize("kind", formats.KINDS)
def test_every_annotation_is_written_or_left_out_with_a_reason(tmp_path, kind):
    folder, found = drawn_masks.exported(tmp_path, kind, dataset(), min_score=0.1)
    counts = found["counts"]
    assert counts["annotations"] == len(dataset()["annotations"])
    assert counts["written"] + counts["left_out"] == counts["annotations"]
    assert len(found["left_out"]) == counts["left_out"]
    reasons = drawn_masks.reasons_of(found)
    assert reasons[61] == "E107" and reasons[None] == "E102" and reasons[1] == "E105"
    assert kind == "coco" or reasons[60] == "E211"
    assert found["kind"] == kind
    assert found["exits_jax"] == drawn_masks.PROVENANCE
    assert sum(path.is_file() for path in folder.rglob("*")) == found["num_files"]


@pytest.mark.parametrize("kind", formats.KINDS)
def test_an_export_can_be_made_again(tmp_path, kind):
    first = drawn_masks.exported(tmp_path, kind, dataset())[1]
    assert drawn_masks.exported(tmp_path, kind, dataset())[1] == first


@pytest.mark.parametrize("kind", formats.KINDS)
def test_a_failure_half_way_leaves_no_output(tmp_path, kind, monkeypatch):
    class Full(Exception):
        pass

    def fail(*_):
        raise Full

    # Every writer counts what it wrote, after it has begun to write.
    monkeypatch.setattr(Report, "wrote", fail)
    with pytest.raises(Full):
        drawn_masks.exported(tmp_path, kind, dataset())
    assert [path.name for path in tmp_path.iterdir()] == ["pseudo_masks.json"]


@pytest.mark.parametrize("kind", formats.KINDS)
@pytest.mark.parametrize("name", ["../x.jpg", "/x.jpg", "a/../../x.jpg", "..\\x.jpg"])
def test_nothing_is_written_outside_of_the_folder(tmp_path, kind, name):
    inner = tmp_path / "inner"
    inner.mkdir()
    source = drawn_masks.content([drawn_masks.OBJECTS["border"]], name=name)
    _, found = drawn_masks.exported(inner, kind, source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inner"]
    assert sorted(path.name for path in inner.iterdir()) == sorted(
        [kind, "pseudo_masks.json"]
    )
    if not kind.startswith("coco"):  # whose files name images, and write none
        assert drawn_masks.reasons_of(found) == {1: "E112"}
        assert drawn_masks.warnings_of(found)["unusable_images"] == 1


@pytest.mark.parametrize("kind", ["voc", "yolo_seg", "labelme"])
def test_the_second_of_two_images_with_one_file_is_left_out(tmp_path, kind):
    source = drawn_masks.content(
        [drawn_masks.OBJECTS["border"]], name="train2017/empty.png"
    )
    source["annotations"][0]["image_id"] = 8
    _, found = drawn_masks.exported(tmp_path, kind, source)
    assert drawn_masks.reasons_of(found) == {1: "E306"}
    assert found["counts"]["images"] == 1


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Unknown format 'pdf'; known are coco, "):
        drawn_masks.exported(tmp_path, "pdf", dataset())


def test_a_report_that_does_not_add_up_is_refused():
    unfinished = Report("voc", 3)
    unfinished.wrote(1)
    unfinished.leave_out(2, "E302", "Annotation 2: too low.")
    with pytest.raises(ValueError, match="1 annotations written and 1 left out"):
        unfinished.as_json({})


def test_an_unknown_warning_is_refused():
    with pytest.raises(ValueError, match="Unknown warning 'typo'"):
        Report("voc", 0).warn("typo")


def test_the_summary_names_counts_and_the_first_reasons():
    made = Report("voc", 10)
    made.wrote(3)
    made.num_images = 2
    made.warn("lost_scores", 3)
    for identity in range(7):
        made.leave_out(identity, "E302", f"Annotation {identity}: too low.")
    lines = made.summary().splitlines()
    assert lines[0] == "3 objects on 2 images, 7 left out"
    assert lines[1].strip() == f"3 {report.WARNINGS['lost_scores']}"
    assert lines[2].strip() == "left out: Annotation 0: too low."
    assert lines[-1].strip() == "left out: and 2 more"


def test_the_report_is_json_of_finite_numbers(tmp_path):
    folder, found = drawn_masks.exported(tmp_path, "voc", dataset())
    text = (folder / "export_report.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == found
