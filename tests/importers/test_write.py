import hashlib
import json
import os

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from pycocotools.coco import COCO

from exits_jax.data.records import AnnotationError
from exits_jax.importers import write as write_module
from exits_jax.importers.items import ImageItem, Rejected
from exits_jax.importers.write import write_items
from tests.importers import made


@pytest.fixture
def folder(tmp_path):
    return made.images(tmp_path / "images", "a.jpg", "b.jpg")


def write(folder, items, **options):
    return write_items(items, folder.parent / "out" / "in.json", folder, **options)


def source_of(summary):
    return json.loads(summary.output.read_text())


def codes(report):
    return [note["code"] for note in report["rejected"]]


# What is written


def test_an_object_becomes_a_record_with_points_and_box(folder):
    summary = write(folder, [made.item()])
    source = source_of(summary)
    assert source["annotations"] == [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "extreme_points": [list(point) for point in made.POINTS],
            "bbox": [20, 10, 41, 41],
            "iscrowd": 0,
        }
    ]
    assert source["images"] == [
        {"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}
    ]
    assert source["categories"] == [{"id": 1, "name": "cat"}]
    (instance,), _ = made.read_back(summary, folder)
    assert instance.flags == ()


def test_ids_follow_first_appearance(folder):
    items = [
        ImageItem("b.jpg"),
        made.item(category="dog"),
        made.item(category="cat", image=ImageItem("b.jpg")),
        made.item(category="dog"),
    ]
    source = source_of(write(folder, items))
    assert [image["file_name"] for image in source["images"]] == ["b.jpg", "a.jpg"]
    assert [kind["name"] for kind in source["categories"]] == ["dog", "cat"]
    rows = [(r["id"], r["image_id"], r["category_id"]) for r in source["annotations"]]
    assert rows == [(1, 2, 1), (2, 1, 2), (3, 2, 1)]


def test_given_categories_keep_their_order_and_refuse_others(folder):
    items = [made.item(), made.item(category="cow")]
    summary = write(folder, items, categories=["dog", "cat"])
    _, report = made.read_back(summary, folder)
    assert [c["name"] for c in source_of(summary)["categories"]] == ["dog", "cat"]
    assert source_of(summary)["annotations"][0]["category_id"] == 2
    assert codes(report) == ["E108"] and "'cow'" in report["rejected"][0]["message"]


def test_a_category_of_rejected_objects_alone_gets_no_id(folder):
    bad = made.item(category="cow", clicks=((5, 5),) * 4)
    summary = write(folder, [bad, made.item()])
    assert source_of(summary)["categories"] == [{"id": 1, "name": "cat"}]


def test_a_box_alone_has_no_points(folder):
    summary = write(folder, [made.item(clicks=None, box=(10, 20, 50, 60))])
    (record,) = source_of(summary)["annotations"]
    assert "extreme_points" not in record and record["bbox"] == [10, 20, 40, 40]
    (instance,), report = made.read_back(summary, folder)
    assert instance.flags == ("box_only",) and report["counts"]["box_only"] == 1


def test_further_fields_are_kept_and_never_replace_ours(folder):
    extra = {"truncated": True, "note": "ü", "id": "x9"}
    summary = write(folder, [made.item(extra=extra)])
    (record,) = source_of(summary)["annotations"]
    assert record["id"] == 1 and record["source_id"] == "x9"
    assert record["truncated"] is True and record["note"] == "ü"
    assert summary.marks == {"truncated": 1}


def test_pycocotools_reads_the_result(folder, capsys):
    summary = write(folder, [made.item(), made.item(clicks=None, box=(1, 2, 30, 40))])
    assert len(COCO(str(summary.output)).getAnnIds(catIds=[1])) == 2


def test_a_stated_size_spares_opening_the_file(folder):
    (folder / "b.jpg").write_bytes(b"not an image")
    summary = write(folder, [made.item(image=ImageItem("b.jpg", 100, 80))])
    assert summary.counts["objects"] == 1


# What is rejected

REJECTED = {
    "missing": (dict(image=ImageItem("c.jpg")), "E111"),
    "parent folder": (dict(image=ImageItem("../images/gone.jpg")), "E112"),
    "absolute": (dict(image=ImageItem("/etc/passwd")), "E112"),
    "URL": (dict(image=ImageItem("http://localhost/gone.jpg")), "E112"),
    "no name": (dict(image=ImageItem("")), "E112"),
    "no image": (dict(image=ImageItem("text.jpg")), "E113"),
    "size": (dict(image=ImageItem("a.jpg", 0, 80)), "E104"),
    "two sizes": (dict(image=ImageItem("a.jpg", 99, 80)), "E110"),
    "no category": (dict(category=""), "E108"),
    "no extent": (dict(clicks=((5, 5), (5, 9), (5, 20), (5, 30))), "E201"),
    "outside": (dict(clicks=((30, 10), (20, 25), (40, 50), (160, 30))), "E205"),
    "three clicks": (dict(clicks=made.POINTS[:3]), "E207"),
    "nothing": (dict(clicks=None), "E207"),
    "shares": (dict(clicks=((0.1, 0), (0, 0.2), (0.3, 0.5), (0.6, 0.1))), "E209"),
    "NaN": (dict(clicks=((float("nan"), 1), *made.POINTS[1:])), "E104"),
    "box without area": (dict(clicks=None, box=(5, 5, 5, 9)), "E201"),
    "box outside": (dict(clicks=None, box=(200, 5, 300, 9)), "E203"),
    "NaN in a field": (dict(extra={"score": float("nan")}), "E104"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_what_cannot_be_used_is_in_the_report(folder, name):
    (folder / "text.jpg").write_text("text")
    changes, code = REJECTED[name]
    items = [made.item(), made.item(record="line 3", **changes), made.item()]
    summary = write(folder, items)
    instances, report = made.read_back(summary, folder)
    assert len(instances) == 2
    (note,) = report["rejected"]
    assert (note["record"], note["code"]) == ("line 3", code)
    assert summary.rejected == {code: (1, note["message"])}


def test_what_a_reader_rejects_is_passed_on(folder):
    summary = write(
        folder, [made.item(), Rejected("shape 4", "E215", "It is rotated.")]
    )
    _, report = made.read_back(summary, folder)
    assert report["rejected"] == [
        {"record": "shape 4", "code": "E215", "message": "It is rotated."}
    ]
    assert report["codes"] == {"E215": 1}


def test_a_listed_image_that_is_missing_is_a_remark(folder):
    summary = write(folder, [ImageItem("c.jpg"), made.item()])
    _, report = made.read_back(summary, folder)
    assert report["counts"]["images"] == 1
    assert [note["code"] for note in report["remarks"]] == ["E111"]


def test_what_was_put_right_is_a_remark(folder):
    clicks = ((30, -0.7), (20, 25), (40, 50), (60, 30))
    items = [made.item(clicks=clicks), made.item(box=(1, 2, 90, 70))]
    _, report = made.read_back(write(folder, items), folder)
    assert [note["code"] for note in report["remarks"]] == ["W204", "W208"]
    assert report["remarked"] == {"W204": 1, "W208": 1}


def test_an_image_under_another_name_is_a_remark(folder):
    path = ImageItem("C:\\work\\a.jpg")
    summary = write(folder, [made.item(image=path), made.item(image=path)])
    count, message = summary.remarks["W217"]
    assert count == 1
    assert message.endswith("of a path that leads elsewhere, an end is taken.")


def test_clicks_in_any_order_are_no_remark(folder):
    _, report = made.read_back(
        write(folder, [made.item(clicks=made.POINTS[::-1])]), folder
    )
    assert report["remarks"] == []


# Files


def test_the_report_vouches_for_the_file(folder):
    summary = write(folder, [made.item()])
    _, report = made.read_back(summary, folder)
    data = summary.output.read_bytes()
    assert report["file"] == {
        "name": "in.json",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert summary.report.name == "in_report.json"


def broken():
    yield made.item()
    yield Rejected("line 3", "E102", "It has 3 columns.")
    raise AnnotationError("the rest is gone")


def test_a_reader_that_fails_leaves_no_file(folder):
    with pytest.raises(AnnotationError, match="the rest is gone"):
        write(folder, broken())
    assert os.listdir(folder.parent / "out") == []


def test_a_reader_that_fails_leaves_an_older_import_as_it_was(folder):
    summary = write(folder, [made.item()])
    before = summary.output.read_bytes(), summary.report.read_bytes()
    with pytest.raises(AnnotationError):
        write(folder, broken())
    assert (summary.output.read_bytes(), summary.report.read_bytes()) == before
    assert len(os.listdir(folder.parent / "out")) == 2


def test_a_crash_between_the_two_files_leaves_no_report(folder, monkeypatch):
    """An older report would vouch for what it does not know."""
    write(folder, [made.item()])
    replace = os.replace

    def crash(source, target):
        if str(target).endswith("_report.json"):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(write_module.os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        write(folder, [made.item(), made.item()])
    assert os.listdir(folder.parent / "out") == ["in.json"]
    assert len(json.loads((folder.parent / "out/in.json").read_text())["images"]) == 1


def test_lost_records_are_noticed(folder, monkeypatch):
    monkeypatch.setattr(write_module.Notes, "num_rejected", 0)
    with pytest.raises(RuntimeError, match="lost or made up"):
        write(folder, [Rejected("line 2", "E102", "It has 3 columns.")])


@pytest.mark.parametrize("items", [[], [Rejected("line 2", "E102", "3 columns.")]])
def test_without_an_object_there_is_a_report_and_no_file(folder, items):
    summary = write(folder, items)
    assert os.listdir(folder.parent / "out") == ["in_report.json"]
    report = json.loads(summary.report.read_text())
    assert report["file"] is None and report["counts"]["records"] == len(items)


def test_without_an_object_an_older_import_stays_as_it_was(folder):
    before = write(folder, [made.item()]).output.read_bytes()
    assert write(folder, []).output.read_bytes() == before


def test_a_missing_image_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="Image folder .*none does not exist"):
        write_items([], tmp_path / "in.json", tmp_path / "none")


def test_a_category_cannot_be_given_twice(folder):
    with pytest.raises(ValueError, match="named twice"):
        write(folder, [], categories=["cat", "cat"])


anything = st.one_of(
    st.just(ImageItem("a.jpg")),
    st.builds(Rejected, st.just("line 1"), st.just("E102"), st.text(max_size=5)),
    st.builds(
        made.item,
        category=st.sampled_from(["cat", "dog", "", "\ud800"]),
        image=st.sampled_from(["a.jpg", "b.jpg", "c.jpg", "../a.jpg"]).map(ImageItem),
        unit=st.sampled_from(["px", "share", "percent"]),
        clicks=st.none()
        | st.lists(
            st.tuples(st.floats(-1, 101), st.floats(-1, 81)), min_size=4, max_size=4
        ).map(tuple),
        box=st.none()
        | st.tuples(
            st.floats(-5, 50), st.floats(-5, 50), st.floats(20, 120), st.floats(20, 90)
        ),
    ),
)


@settings(deadline=None, max_examples=60)
@given(items=st.lists(anything, max_size=12))
def test_whatever_comes_is_accounted_for_and_can_be_read_again(tmp_path_factory, items):
    folder = made.images(tmp_path_factory.mktemp("any") / "images", "a.jpg", "b.jpg")
    summary = write(folder, items)
    made.read_back(summary, folder)
    records = [item for item in items if not isinstance(item, ImageItem)]
    assert summary.counts["records"] == len(records)
