import json
import os
from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from exits_jax.data.annotations import read_instances
from exits_jax.data.coco_file import CocoFile
from exits_jax.data.extreme_points import points_of_record
from exits_jax.data.records import AnnotationError

WIDTH, HEIGHT = 100, 80
POINTS = [[30, 10], [20, 25], [40, 50], [60, 30]]  # top, left, bottom, right
BBOX = [20, 10, 41, 41]


def annotation(**changes):
    record = {
        "id": 1,
        "image_id": 7,
        "category_id": 3,
        "bbox": BBOX,
        "extreme_points": POINTS,
        "iscrowd": 0,
    }
    record.update(changes)
    return {key: value for key, value in record.items() if value is not ...}


def instances(*records, **changes):
    image = {"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}
    source = {
        "images": [image],
        "annotations": list(records),
        "categories": [{"id": 3, "name": "cat"}],
    }
    source.update(changes)
    return source


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images" / "a.png")
    return tmp_path


def read(folder, source, **options):
    path = folder / "instances.json"
    if isinstance(source, bytes):
        path.write_bytes(source)
    else:
        path.write_text(json.dumps(source))
    return read_instances(path, folder / "images", **options)


def read_one(folder, **changes):
    (instance,) = read(folder, instances(annotation(**changes))).instances
    return instance


def problem_of(folder, *records, **changes):
    source = instances(*(records or [annotation()]), **changes)
    dataset = read(folder, source, max_skip_fraction=1.0)
    assert len(dataset.skipped) == 1
    return dataset.skipped[0]


# What a record becomes


def test_points_and_ids_arrive_as_they_are(folder):
    instance = read_one(folder)
    np.testing.assert_array_equal(instance.extreme_points, np.float32(POINTS))
    assert instance.extreme_points.dtype == np.float32
    assert instance[:3] == (1, 7, 3)
    assert instance.image_path == str(folder / "images" / "a.png")
    assert instance.image_size == (HEIGHT, WIDTH)
    assert (instance.is_crowd, instance.flags) == (False, ())


def test_box_of_points_includes_the_extreme_pixels(folder):
    assert read_one(folder).box == (20.0, 10.0, 61.0, 51.0)


def test_box_of_fractional_points_is_made_of_whole_pixels(folder):
    points = [[30.0, 10.7], [20.2, 25.0], [40.0, 50.9], [60.5, 30.0]]
    assert read_one(folder, extreme_points=points).box == (20.0, 10.0, 61.0, 51.0)


@pytest.mark.parametrize("absent", [..., None, []])
def test_record_without_points_has_its_box_only(folder, absent):
    instance = read_one(folder, extreme_points=absent)
    assert instance.extreme_points is None
    assert instance.box == (20.0, 10.0, 61.0, 51.0)
    assert instance.flags == ("box_only",)


def test_points_without_bbox_are_enough(folder):
    assert read_one(folder, bbox=...).flags == ()


def test_crowd_is_marked(folder):
    assert read_one(folder, iscrowd=1, extreme_points=...).is_crowd


@pytest.mark.parametrize("id", [0, 10**15, "a-1", ""])
def test_ids_of_any_kind_are_kept(folder, id):
    source = instances(
        annotation(id=id, image_id=id, category_id=id),
        images=[{"id": id, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        categories=[{"id": 90}, {"id": id}],
    )
    assert read(folder, source).instances[0][:3] == (id, id, id)


def test_source_is_the_parsed_file(folder):
    source = instances(annotation(note="kept", bbox=[-5, 0, 20, 20]), info={"a": 1})
    found = read(folder, source).source
    assert found.rest == {"info": {"a": 1}}
    assert list(found.images) == source["images"]
    assert list(found.annotations) == source["annotations"]
    assert found.categories == source["categories"]


def test_file_without_annotations_gives_an_empty_dataset(folder):
    dataset = read(folder, instances())
    assert (dataset.instances, dataset.skipped) == ([], [])


def test_size_is_read_from_the_file_when_the_record_has_none(folder):
    source = instances(annotation(), images=[{"id": 7, "file_name": "a.png"}])
    (instance,) = read(folder, source).instances
    assert instance.image_size == (HEIGHT, WIDTH)
    assert instance.flags == ("size_from_file",)


def test_name_comes_from_coco_url_where_lvis_gives_no_file_name(folder):
    image = {"id": 7, "coco_url": "http://x.org/val/a.png", "width": 100, "height": 80}
    source = instances(annotation(), images=[image])
    path = str(folder / "images" / "a.png")
    assert read(folder, source).instances[0].image_path == path


def test_coco_url_also_finds_the_folder_of_a_split(folder):
    (folder / "images" / "val").mkdir()
    (folder / "images" / "a.png").rename(folder / "images" / "val" / "a.png")
    image = {"id": 7, "coco_url": "http://x.org/val/a.png", "width": 100, "height": 80}
    source = instances(annotation(), images=[image])
    path = str(folder / "images" / "val" / "a.png")
    assert read(folder, source).instances[0].image_path == path


@pytest.mark.parametrize("name", ["sub/ü 😀.png", "line\nbreak.png", "a:b.png"])
def test_unusual_file_names_are_opened(folder, name):
    target = folder / "images" / name
    target.parent.mkdir(exist_ok=True)
    (folder / "images" / "a.png").rename(target)
    source = instances(annotation(), images=[{"id": 7, "file_name": name}])
    assert read(folder, source).instances[0].image_path == str(target)


# What is put right, with a flag


def test_box_partly_outside_is_clipped(folder):
    instance = read_one(folder, extreme_points=..., bbox=[-5, 70, 20, 30])
    assert instance.box == (0.0, 70.0, 15.0, 80.0)
    assert instance.flags == ("box_only", "clipped_box")


def test_box_that_only_rounding_put_outside_is_clipped_without_remark(folder):
    instance = read_one(folder, extreme_points=..., bbox=[90.01, 10, 10, 10])
    assert instance.box[2] == WIDTH
    assert instance.flags == ("box_only",)


def test_point_on_the_far_border_is_clamped(folder):
    points = [[30, -1], [20, 25], [40, HEIGHT], [WIDTH, 30]]
    instance = read_one(folder, extreme_points=points, bbox=...)
    expected = [[30, 0], [20, 25], [40, HEIGHT - 1], [WIDTH - 1, 30]]
    assert instance.extreme_points.tolist() == expected
    assert instance.box == (20.0, 0.0, WIDTH, HEIGHT)
    assert instance.flags == ("clamped_points",)


@settings(deadline=None, max_examples=24)
@given(order=st.permutations(range(4)))
def test_points_in_any_order_are_sorted(tmp_path_factory, order):
    folder = tmp_path_factory.mktemp("order")
    (folder / "images").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "images" / "a.png")
    instance = read_one(folder, extreme_points=[POINTS[i] for i in order])
    assert instance.extreme_points.tolist() == POINTS
    assert instance.flags == (() if order == [0, 1, 2, 3] else ("sorted_points",))


def test_point_that_is_extreme_twice_serves_two_sides(folder):
    points = [[40, 50], [20, 10], [60, 30], [50, 40]]  # top left corner is one click
    instance = read_one(folder, extreme_points=points)
    assert instance.extreme_points.tolist() == [[20, 10], [20, 10], [40, 50], [60, 30]]


def test_order_within_a_pixel_is_not_touched_and_stays_in_the_box(folder):
    points = [[30, 11], [20, 10], [40, 50], [60, 30]]
    instance = read_one(folder, extreme_points=points)
    assert instance.extreme_points.tolist() == points
    assert instance.box == (20.0, 10.0, 61.0, 51.0)
    assert instance.flags == ()


def test_identical_clicks_for_two_sides_are_allowed(folder):
    points = [[20, 10], [20, 10], [60, 50], [60, 50]]
    assert read_one(folder, extreme_points=points).flags == ()


def test_points_win_over_a_box_that_disagrees(folder):
    instance = read_one(folder, bbox=[20, 10, 41, 47])
    assert instance.box == (20.0, 10.0, 61.0, 51.0)
    assert instance.flags == ("points_disagree_with_box",)


def test_five_pixels_between_points_and_box_are_agreement(folder):
    assert read_one(folder, bbox=[20, 10, 41, 46]).flags == ()


def test_two_pixel_object_in_the_corner_is_not_normalised(folder):
    points = [[0, 0], [0, 0], [1, 1], [1, 1]]
    assert read_one(folder, extreme_points=points, bbox=[0, 0, 2, 2]).flags == ()


# Faults of single records


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"image_id": 8}, "E107", "image_id 8 is not among the images"),
        ({"image_id": [7]}, "E107", "is not among the images"),
        ({"category_id": 9}, "E108", "category_id 9 is not among the categories"),
        ({"category_id": {}}, "E108", "is not among the categories"),
        ({"iscrowd": "yes"}, "E104", "iscrowd is 'yes'; expected 0 or 1"),
        ({"bbox": [1, 2, float("nan"), 4]}, "E104", "expected four finite numbers"),
        ({"bbox": [1, 2, "12", 4]}, "E104", "expected four finite numbers"),
        ({"bbox": [1, 2, 3]}, "E104", "expected four finite numbers"),
        ({"bbox": [1, 2, 10**400, 4]}, "E104", "expected four finite numbers"),
        (
            {"extreme_points": [[float("inf"), 1], *POINTS[1:]]},
            "E104",
            "the top extreme point is [inf, 1]; expected two finite numbers",
        ),
        (
            {"extreme_points": [POINTS[0], ["20", 25], *POINTS[2:]]},
            "E104",
            "the left extreme point is ['20', 25]",
        ),
        ({"bbox": [20, 10, 0, 5]}, "E201", "has no area"),
        ({"bbox": [20, 10, 5, -3], "extreme_points": ...}, "E201", "has no area"),
        ({"extreme_points": [[9, 9]] * 4}, "E201", "no extent in x"),
        (
            {"extreme_points": [[5, 9], [2, 9], [5, 9], [8, 9]]},
            "E201",
            "no extent in y",
        ),
        (
            {"extreme_points": ..., "bbox": [100, 10, 5, 5]},
            "E203",
            "lies fully outside its 100x80 image",
        ),
        (
            {"extreme_points": [*POINTS[:3], [101.5, 30]]},
            "E205",
            "the right extreme point (101.5, 30) lies outside its 100x80 image",
        ),
        ({"extreme_points": POINTS[:3]}, "E207", "expected four [x, y] in the order"),
        ({"extreme_points": [*POINTS, [1, 1]]}, "E207", "expected four [x, y]"),
        ({"extreme_points": [[1, 2, 0]] * 4}, "E207", "expected four [x, y]"),
        ({"extreme_points": "1,2"}, "E207", "expected four [x, y]"),
        (
            {"extreme_points": ..., "bbox": ...},
            "E207",
            "has neither extreme_points nor bbox",
        ),
        (
            {"extreme_points": [[0.5, 0.1], [0.2, 0.5], [0.5, 0.9], [0.9, 0.5]]},
            "E209",
            "look normalised",
        ),
        (
            {"extreme_points": ..., "bbox": [0.2, 0.2, 0.5, 0.5]},
            "E209",
            "looks normalised",
        ),
    ],
)
def test_faulty_record_is_listed_with_its_id_code_and_reason(
    folder, changes, code, words
):
    problem = problem_of(folder, annotation(**changes))
    assert problem[:2] == (1, code)
    assert problem.message.startswith("Annotation 1")
    assert words in problem.message


def test_repeated_annotation_id_keeps_the_first_record(folder):
    dataset = read(folder, instances(annotation(), annotation(bbox=...)))
    assert len(dataset.instances) == 1
    assert dataset.skipped[0][:2] == (1, "E105")
    assert "entry 1 repeats this id" in dataset.skipped[0].message


@pytest.mark.parametrize("id", [..., None, 1.5, True, [1]])
def test_record_without_usable_id_is_reported_by_its_place(folder, id):
    problem = problem_of(folder, annotation(id=id))
    assert problem[:2] == (None, "E105")
    assert "Entry 0 of `annotations`" in problem.message


def test_record_that_is_no_object_is_reported(folder):
    problem = problem_of(folder, 5)
    assert (problem.code, problem.annotation_id) == ("E102", None)


def test_missing_image_file_is_reported_for_each_of_its_annotations(folder):
    images = [{"id": 7, "file_name": "no.png", "width": 9, "height": 9}]
    source = instances(annotation(), annotation(id=2), images=images)
    skipped = read(folder, source, max_skip_fraction=1.0).skipped
    assert [problem[:2] for problem in skipped] == [(1, "E111"), (2, "E111")]
    assert "its file 'no.png' is missing" in skipped[1].message


@pytest.mark.parametrize(
    "name",
    [
        "../b.png",
        "sub/../../b.png",
        "..\\b.png",
        "/etc/passwd",
        "\\\\host\\b.png",
        "C:\\b.png",
        "http://169.254.169.254/b.png",
        "gs://bucket/b.png",
        "data:image/png;base64,AAAA",
        "a\0.png",
        "",
        5,
        None,
    ],
)
def test_unsafe_file_name_is_never_opened(folder, monkeypatch, name):
    def refuse(path):
        raise AssertionError(f"{path} was opened")

    looked_for = []
    monkeypatch.setattr(
        "exits_jax.data.image_finder.os.path.isfile",
        lambda path: bool(looked_for.append(path)),
    )
    monkeypatch.setattr("exits_jax.data.annotations.check_image", refuse)
    problem = problem_of(folder, images=[{"id": 7, "file_name": name}])
    assert problem.code == "E112"
    assert "expected a path below the image folder" in problem.message
    inside = str(folder / "images")
    assert all(os.path.normpath(path).startswith(inside) for path in looked_for)


def test_of_a_path_that_leads_elsewhere_the_end_in_the_folder_is_read(folder):
    image = {"id": 7, "file_name": "C:\\work\\a.png", "width": 100, "height": 80}
    (instance,) = read(folder, instances(annotation(), images=[image])).instances
    assert instance.image_path == str(folder / "images" / "a.png")
    assert instance.flags == ("under_other_name",)


def test_a_file_at_the_end_of_two_names_is_neither_image(folder):
    names = ("/d/train/a.png", "/d/val/a.png")
    images = [
        {"id": 7 + k, "file_name": name, "width": 40, "height": 30}
        for k, name in enumerate(names)
    ]
    records = (annotation(), annotation(id=2, image_id=8))
    source = instances(*records, images=images)
    found = read(folder, source, max_skip_fraction=1.0)
    assert not len(found.instances)
    assert [problem.code for problem in found.skipped] == ["E111"] * 2
    assert "taken for none of them" in found.skipped[0].message
    # The other need not have any annotation.
    alone = instances(annotation(), images=images)
    assert not len(read(folder, alone, max_skip_fraction=1.0).instances)


def test_tail_of_coco_url_is_checked_like_a_file_name(folder):
    problem = problem_of(folder, images=[{"id": 7, "coco_url": "http://x.org/.."}])
    assert problem.code == "E112"


def test_image_that_cannot_give_its_size_is_reported(folder):
    (folder / "images" / "text.jpg").write_text("hello")
    problem = problem_of(folder, images=[{"id": 7, "file_name": "text.jpg"}])
    assert problem.code == "E113"
    assert "text.jpg is not an image" in problem.message


@pytest.mark.parametrize("width", ["100", 0, -5, 10.5, [1]])
def test_image_size_must_be_whole_and_positive(folder, width):
    image = {"id": 7, "file_name": "a.png", "width": width, "height": HEIGHT}
    problem = problem_of(folder, images=[image])
    assert problem.code == "E104"
    assert "expected a positive whole number of pixels" in problem.message


# Policies


def test_error_policy_reports_all_faulty_records_together(folder):
    source = instances(annotation(image_id=8), annotation(id=2), annotation(id=2))
    with pytest.raises(AnnotationError, match="2 of 3 records cannot") as caught:
        read(folder, source, on_bad="error")
    assert [problem.code for problem in caught.value.problems] == ["E107", "E105"]
    assert "E107: Annotation 1" in str(caught.value)
    assert "E105: Annotation 2" in str(caught.value)


def test_long_reports_end_with_a_count(folder):
    records = [annotation(id=id, image_id=8) for id in range(25)]
    with pytest.raises(AnnotationError, match="and 5 more") as caught:
        read(folder, instances(*records), on_bad="error")
    assert str(caught.value).count("E107") == 20
    assert len(caught.value.problems) == 25


def test_too_many_skipped_records_are_an_error(folder):
    source = instances(annotation(), annotation(id=2, image_id=8))
    assert len(read(folder, source, max_skip_fraction=0.5).skipped) == 1
    with pytest.raises(AnnotationError, match="more than max_skip_fraction = 0.49"):
        read(folder, source, max_skip_fraction=0.49)


def test_unknown_policy_lists_the_choices(folder):
    with pytest.raises(ValueError, match="on_bad is 'fix'; choose one of skip, error"):
        read(folder, instances(), on_bad="fix")


def test_skip_fraction_must_be_a_fraction(folder):
    with pytest.raises(ValueError, match="max_skip_fraction is 2; expected 0 to 1"):
        read(folder, instances(), max_skip_fraction=2)


# Faults of the file


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"images": [', r"not JSON: .* at byte 12 of 12 \(line 1, column 13\)"),
        (b"", r"not JSON: .* at byte 0 of 0"),
        ('{"ü": x}'.encode(), r"not JSON: .* at byte 7 "),
        (b"\xef\xbb\xbf{x", r"not JSON: .* at byte 4 "),
        (b'{"a": "\xff"}', "not UTF-8 text: byte 7 is wrong"),
        ("{}".encode("utf-16"), "looks like UTF-16 or UTF-32; save it as UTF-8"),
        ("{}".encode("utf-16-le"), "looks like UTF-16"),
        (b"[" * 200_000, "cannot be parsed as JSON"),
        (b"9" * 10_000, "cannot be parsed as JSON"),
        (b"[]", "this is a results file; pass an instances JSON"),
        (b"3", "holds 3; expected an instances JSON"),
        (b"{}", "`images` is missing; expected a list"),
        (b'{"images": [], "annotations": null}', "`annotations` is null"),
        (b'{"images": [], "annotations": {}}', "`annotations` is empty, not a list"),
        (b'{"images": [], "annotations": {"1": 2}}', "`annotations` is dict, not a"),
        (b'{"images": [], "annotations": []}', "`categories` is missing"),
        (b'{"images": [{}], "annotations": [], "categories": []}', "no usable id"),
        (
            b'{"images": [{"id": 1}, {"id": 1}], "annotations": [], "categories": []}',
            "1 image ids occur more than once: 1",
        ),
    ],
)
@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_file_of_another_structure_always_raises(folder, data, words, on_bad):
    with pytest.raises(AnnotationError, match=words) as caught:
        read(folder, data, on_bad=on_bad, max_skip_fraction=1.0)
    assert caught.value.problems[0].code in {"E101", "E102", "E106"}
    assert str(folder / "instances.json") in str(caught.value)


@pytest.mark.parametrize("place", ["info", "images"])
def test_a_number_that_is_not_finite_outside_the_annotations_is_an_error(folder, place):
    source = instances(annotation(), info={"a": 1})
    record = source["info"] if place == "info" else source["images"][0]
    record["odd"] = float("nan")
    with pytest.raises(AnnotationError, match=f"`{place}` holds NaN") as caught:
        read(folder, source)
    assert caught.value.problems[0].code == "E104"


def test_a_number_that_is_not_finite_in_a_further_field_costs_the_record(folder):
    source = instances(annotation(odd=[{"a": float("inf")}]), annotation(id=2))
    dataset = read(folder, source)
    assert [problem[:2] for problem in dataset.skipped] == [(1, "E104")]
    assert "Annotation 1: one of its fields" in dataset.skipped[0].message


SQUARE = [[10, 10, 60, 10, 60, 60, 10, 60]]


def test_a_record_with_a_mask_gets_its_points(folder):
    rule = partial(points_of_record, mode="clean")
    source = instances(annotation(extreme_points=..., segmentation=SQUARE))
    (item,) = read(folder, source, points_of=rule).instances
    assert item.extreme_points.tolist() == [[34, 10], [10, 34], [34, 59], [59, 34]]
    assert item.box == (10, 10, 60, 60)


@pytest.mark.parametrize(
    "changes",
    [{"iscrowd": 1}, *({"segmentation": empty} for empty in ([], {}, None))],
)
def test_a_record_that_needs_no_points_keeps_its_box(folder, changes):
    rule = partial(points_of_record, mode="clean")
    record = annotation(extreme_points=..., **{"segmentation": SQUARE, **changes})
    found = read(folder, instances(record), points_of=rule)
    assert found.instances[0].extreme_points is None and found.remarks == []


def test_points_that_exist_win_over_the_mask(folder):
    rule = partial(points_of_record, mode="clean")
    source = instances(annotation(segmentation=SQUARE))
    (item,) = read(folder, source, points_of=rule).instances
    assert item.extreme_points.tolist() == POINTS


def test_a_bad_mask_costs_a_record_with_a_box_only_its_points(folder):
    rule = partial(points_of_record, mode="clean")
    source = instances(annotation(extreme_points=..., segmentation=[[1, 2, 3]]))
    found = read(folder, source, points_of=rule)
    assert found.instances[0].flags == ("box_only",) and found.skipped == []
    (remark,) = found.remarks
    assert remark[:2] == (1, "E212") and remark.position == 0
    assert "It keeps only its box." in remark.message


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"segmentation": [[1, 2, 3]]}, "E212"),
        ({"segmentation": None}, "E207"),
        ({"segmentation": SQUARE, "iscrowd": 1}, "E207"),
        ({"segmentation": SQUARE, "image_id": 9}, "E107"),
        ({"segmentation": {"size": [2, 2], "counts": [0, 4]}}, "E211"),
        ({"segmentation": [[200, 1, 210, 1, 210, 9]]}, "E213"),
    ],
)
@pytest.mark.parametrize("mode", ["extremenet", "clean"])
def test_a_record_without_anything_usable_is_skipped(folder, changes, code, mode):
    record = annotation(extreme_points=..., bbox=..., **changes)
    rule = partial(points_of_record, mode=mode)
    found = read(folder, instances(record), max_skip_fraction=1.0, points_of=rule)
    assert not found.instances and found.remarks == []
    assert [problem[:2] for problem in found.skipped] == [(1, code)]


@pytest.mark.parametrize(
    "changes", [{"iscrowd": 1}, {"segmentation": []}, {"extreme_points": POINTS}]
)
def test_only_masks_that_are_needed_are_looked_at(folder, changes):
    def refuse(record, image):
        raise AssertionError(f"the mask of {record} was asked for")

    record = annotation(**{"extreme_points": ..., "segmentation": SQUARE, **changes})
    found = read(folder, instances(record), points_of=refuse)
    assert len(found.instances) == 1 and found.skipped == found.remarks == []


def test_the_size_for_a_mask_is_read_from_the_image_where_it_is_not_stated(folder):
    rule = partial(points_of_record, mode="clean")
    record = annotation(extreme_points=..., bbox=..., segmentation=SQUARE)
    source = instances(record, images=[{"id": 7, "file_name": "a.png"}])
    found = read(folder, source, points_of=rule)
    assert found.skipped == found.remarks == []
    assert found.instances[0].extreme_points is not None
    assert found.instances[0].flags == ("size_from_file",)


def test_every_record_has_its_place_in_the_file(folder):
    records = [annotation(id=1), 5, annotation(id=2, image_id=9), annotation(id=3)]
    found = read(folder, instances(*records))
    assert found.instances.position.tolist() == [0, 3]
    assert [problem.position for problem in found.skipped] == [1, 2]


def test_an_image_has_its_place_in_the_file(folder):
    unused = {"id": 1, "file_name": "gone.png"}
    source = instances(annotation())
    source["images"].insert(0, unused)
    found = read(folder, source)
    assert found.instances.image_position.tolist() == [1]
    assert found.source.image_ids == [1, 7]


def test_a_parsed_file_is_taken_as_well(folder):
    file = CocoFile("made", instances(annotation()))
    found = read_instances(file, folder / "images")
    assert found.source is file and len(found.instances) == 1
    broken = CocoFile("made", instances(5))
    with pytest.raises(AnnotationError, match="made: 1 of 1 records cannot be used"):
        read_instances(broken, folder / "images", on_bad="error")


def test_a_huge_file_is_refused_before_it_is_read(folder):
    path = folder / "instances.json"
    with path.open("wb") as file:
        file.truncate(9 * 2**30)  # a hole: it takes no room on the disk
    with pytest.raises(AnnotationError, match="9.0 GiB; at most 8 GiB") as caught:
        read_instances(path, folder / "images")
    assert caught.value.problems[0].code == "E115"


def test_a_link_out_of_the_image_folder_is_followed_only_where_allowed(folder):
    outside = folder / "outside"
    outside.mkdir()
    (folder / "images" / "a.png").rename(outside / "a.png")
    (folder / "images" / "a.png").symlink_to(outside / "a.png")
    problem = problem_of(folder, annotation())
    assert problem.code == "E112" and "data.follow_links=True" in problem.message
    allowed = read(folder, instances(annotation()), follow_links=True)
    assert len(allowed.instances) == 1


def test_links_within_the_image_folder_and_to_it_are_followed(folder):
    (folder / "images" / "a.png").rename(folder / "images" / "b.png")
    (folder / "images" / "a.png").symlink_to("b.png")
    (folder / "images").rename(folder / "elsewhere")
    (folder / "images").symlink_to(folder / "elsewhere")
    assert len(read(folder, instances(annotation())).instances) == 1


def test_byte_order_mark_is_accepted(folder):
    data = b"\xef\xbb\xbf" + json.dumps(instances(annotation())).encode()
    assert len(read(folder, data).instances) == 1


def test_missing_annotation_file_is_named(folder):
    with pytest.raises(FileNotFoundError, match=r"no\.json does not exist"):
        read_instances(folder / "no.json", folder / "images")


def test_missing_image_folder_is_named(folder):
    with pytest.raises(FileNotFoundError, match="folder .*nowhere does not exist"):
        read_instances(folder / "no.json", folder / "nowhere")


# Anything at all

junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@settings(deadline=None, max_examples=150)
@given(
    field=st.sampled_from(sorted(annotation())),
    value=junk | st.lists(st.lists(st.floats(-5, 105), min_size=2, max_size=2)),
)
def test_any_value_of_any_field_gives_an_instance_or_a_problem(
    tmp_path_factory, field, value
):
    folder = tmp_path_factory.mktemp("junk")
    (folder / "images").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "images" / "a.png")
    source = instances(annotation(**{field: value}))
    dataset = read(folder, source, max_skip_fraction=1.0)
    assert len(dataset.instances) + len(dataset.skipped) == 1
    for instance in dataset.instances:
        x0, y0, x1, y1 = instance.box
        assert 0 <= x0 < x1 <= WIDTH
        assert 0 <= y0 < y1 <= HEIGHT


def test_a_skipped_record_carries_no_remark(folder):
    rule = partial(points_of_record, mode="clean")
    record = annotation(extreme_points=..., segmentation=[[1, 2, 3]], category_id=9)
    found = read(folder, instances(record), points_of=rule, max_skip_fraction=1.0)
    assert [problem.code for problem in found.skipped] == ["E108"]
    assert found.remarks == []
