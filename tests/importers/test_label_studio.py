import base64
import json

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from exits_jax.data.records import AnnotationError
from exits_jax.importers.items import ImageItem, ObjectItem, Rejected
from exits_jax.importers.label_studio import read
from exits_jax.importers.write import write_items
from tests.importers import made

CLICKS = ((30.0, 10.0), (20.0, 25.5), (40.0, 50.0), (60.0, 30.0))
A_PATH = "/data/upload/1/a.jpg"
A_IMAGE = ImageItem(A_PATH, 200, 160)
SIDES = ("top", "left", "bottom", "right")


def changed(record, changes):
    """A record with changes; a field that is ... is left out."""
    return {key: value for key, value in (record | changes).items() if value is not ...}


def region(kind, identity, content, **changes):
    fields = {
        "original_width": 200,
        "original_height": 160,
        "image_rotation": 0,
        "value": content,
        "id": identity,
        "from_name": "tag",
        "to_name": "image",
        "type": kind,
        "origin": "manual",
    }
    return changed(fields, changes)


def keypoint(identity, place=0, label="cat", of_value=(), **changes):
    x, y = CLICKS[place]
    labels = {"keypointlabels": [label]} if label is not None else {}
    fields = {"x": x, "y": y, "width": 0.5, **labels}
    return region(
        "keypointlabels", identity, changed(fields, dict(of_value)), **changes
    )


def keypoints(label="cat", count=4, prefix="k", **changes):
    return [keypoint(f"{prefix}{n}", n % 4, label, **changes) for n in range(count)]


def rectangle(identity="box", label="cat", of_value=(), **changes):
    fields = {"x": 20.0, "y": 10.0, "width": 40.0, "height": 40.0, "rotation": 0}
    fields["rectanglelabels"] = [label]
    return region(
        "rectanglelabels", identity, changed(fields, dict(of_value)), **changes
    )


def annotation(*regions, **changes):
    fields = {"id": 5, "result": list(regions), "was_cancelled": False}
    return changed(fields | {"ground_truth": False}, changes)


def task(*annotations, **changes):
    fields = {"id": 12, "data": {"image": "/data/upload/1/a.jpg"}, "project": 1}
    fields |= {"annotations": list(annotations), "predictions": [], "drafts": []}
    return changed(fields, changes)


def items_of(folder, content):
    path = folder / "project-1.json"
    if not isinstance(content, bytes):
        content = json.dumps(content).encode()
    path.write_bytes(content)
    return made.bare(read(path))


def items(folder, *regions, **changes):
    return items_of(folder, [task(annotation(*regions), **changes)])


def file_code(folder, content):
    with pytest.raises(AnnotationError) as caught:
        items_of(folder, content)
    return caught.value.problems[0].code


# What belongs together


def test_four_keypoints_under_a_rectangle_are_one_object_of_its_class(tmp_path):
    sides = [
        keypoint(side, n, label=side, parentID="box") for n, side in enumerate(SIDES)
    ]
    (item,) = items(tmp_path, rectangle(label="dog"), *sides)
    assert item[:5] == (A_IMAGE, "dog", CLICKS, (20.0, 10.0, 60.0, 50.0), "percent")
    assert item.record == "task 12, regions top, left, bottom, right"


def test_keypoints_under_a_rectangle_need_no_label(tmp_path):
    bare = keypoints(label=None, parentID="box")
    (item,) = items(tmp_path, *bare, rectangle())
    assert (item.category, item.clicks) == ("cat", CLICKS)


def test_two_objects_are_told_apart_by_their_parents(tmp_path):
    found = items(
        tmp_path,
        *keypoints(prefix="a", parentID="one"),
        *keypoints(prefix="b", parentID="two"),
        rectangle("two", label="dog"),
        rectangle("one"),
    )
    assert [item.category for item in found] == ["cat", "dog"]
    assert all(item.clicks == CLICKS for item in found)


@pytest.mark.parametrize(
    "mark",
    [{"meta": {"text": ["left cat"]}}, {"meta": {"group": 4}}, {"group": "g"}],
)
def test_keypoints_are_grouped_by_the_note_of_their_regions(tmp_path, mark):
    found = items(
        tmp_path,
        *keypoints(prefix="a", **mark),
        *keypoints(prefix="b", meta={"text": ["the other"]}),
    )
    assert [item.clicks for item in found] == [CLICKS, CLICKS]
    assert [item.box for item in found] == [None, None]


def test_a_rectangle_of_the_same_note_is_the_box(tmp_path):
    note = {"meta": {"text": ["one"]}}
    (item,) = items(tmp_path, rectangle(label="dog", **note), *keypoints(**note))
    assert item.category == "dog"
    assert item.box == (20.0, 10.0, 60.0, 50.0)


def test_four_keypoints_of_one_label_are_an_object(tmp_path):
    found = items(tmp_path, *keypoints("cat"), *keypoints("dog", prefix="d"))
    assert [item.category for item in found] == ["cat", "dog"]
    assert found[1].record == "task 12, regions d0, d1, d2, d3"


@pytest.mark.parametrize("count", [1, 3, 5, 8])
def test_another_number_of_one_label_is_rejected_with_the_ids(tmp_path, count):
    rejected, image = items(tmp_path, *keypoints(count=count))
    assert rejected.code == "E207"
    assert all(f"k{n}" in rejected.record for n in range(count))
    assert image == ImageItem(A_PATH)


@pytest.mark.parametrize("count", [3, 5])
def test_a_rectangle_without_its_four_keypoints_stays_as_a_box(tmp_path, count):
    marks = keypoints(count=count, parentID="box")
    rejected, item = items(tmp_path, rectangle(), *marks)
    assert rejected.code == "E207"
    assert "parent 'box'" in rejected.message
    assert (item.clicks, item.record) == (None, "task 12, region box")


def test_keypoints_of_several_classes_without_a_rectangle_have_no_class(tmp_path):
    marks = [keypoint(s, n, label=s, parentID="gone") for n, s in enumerate(SIDES)]
    rejected, _ = items(tmp_path, *marks)
    assert rejected.code == "E108"


def test_a_rectangle_alone_is_an_object_without_clicks(tmp_path):
    (item,) = items(tmp_path, rectangle())
    assert item.clicks is None
    assert item.box == (20.0, 10.0, 60.0, 50.0)


def test_a_rectangle_drawn_backwards_is_put_right(tmp_path):
    backwards = {"x": 60.0, "y": 50.0, "width": -40.0, "height": -40.0}
    (item,) = items(tmp_path, rectangle(of_value=backwards))
    assert item.box == (20.0, 10.0, 60.0, 50.0)


def test_two_clicks_at_one_place_are_kept(tmp_path):
    marks = [keypoint(f"k{n}", max(n, 1)) for n in range(4)]
    (item,) = items(tmp_path, *marks)
    assert item.clicks == (CLICKS[1], *CLICKS[1:])


def test_regions_of_one_id_are_all_accounted_for(tmp_path):
    marks = keypoints(parentID="box")
    found = items(tmp_path, rectangle(), rectangle(label="dog"), *marks)
    assert [item.category for item in found] == ["cat", "dog"]


# Rotation


def test_a_rotated_rectangle_is_rejected(tmp_path):
    rejected, _ = items(tmp_path, rectangle(of_value={"rotation": 12.5}))
    assert rejected.code == "E215"
    assert "12.5 degrees" in rejected.message


def test_a_rotated_rectangle_still_names_the_class_of_its_keypoints(tmp_path):
    turned = rectangle(label="dog", of_value={"rotation": 12.5})
    item, rejected = items(tmp_path, turned, *keypoints(parentID="box"))
    assert (item.category, item.clicks, item.box) == ("dog", CLICKS, None)
    assert rejected.code == "E215"


def test_regions_of_a_turned_image_are_rejected(tmp_path):
    found = items(tmp_path, *keypoints(image_rotation=90), rectangle(image_rotation=0))
    assert [item.code for item in found[:4]] == ["E215"] * 4
    assert found[4].clicks is None


# Annotations of a task


def test_cancelled_annotations_are_rejected(tmp_path):
    found = items_of(
        tmp_path,
        [task(annotation(*keypoints(), was_cancelled=True), annotation(rectangle()))],
    )
    assert [item.code for item in found[:1]] == ["E218"]
    assert found[0].record == "task 12, annotation 1"
    assert found[1].box is not None


@pytest.mark.parametrize("key", ["predictions", "drafts"])
def test_predictions_and_drafts_are_rejected_one_by_one(tmp_path, key):
    unsubmitted = [{"result": keypoints()}, 17]
    found = items(tmp_path, *keypoints(), **{key: unsubmitted})
    assert [item.code for item in found[:2]] == ["E218", "E218"]
    assert found[2].clicks == CLICKS


def test_of_several_annotations_the_ground_truth_is_read_else_the_first(tmp_path):
    first, second = annotation(rectangle()), annotation(*keypoints())
    item, rejected = reversed(items_of(tmp_path, [task(first, second)]))
    assert rejected[:2] == ("task 12, annotation 2", "E218")
    assert item.clicks is None
    second["ground_truth"] = True
    item, rejected = reversed(items_of(tmp_path, [task(first, second)]))
    assert rejected[:2] == ("task 12, annotation 1", "E218")
    assert item.clicks == CLICKS


@pytest.mark.parametrize("annotations", [[], [annotation()]])
def test_a_task_without_regions_lists_its_image(tmp_path, annotations):
    assert items_of(tmp_path, [task(*annotations)]) == [ImageItem(A_PATH)]


# The file name of the image


def _read_raw(folder, path):
    tasks = [task(annotation(*keypoints()), data={"image": path})]
    return read(made.write_json(folder / "raw.json", tasks))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("/data/upload/1/abcd-a.jpg", "abcd-a.jpg"),
        ("/data/local-files/?d=folder/a%20b.jpg", "a b.jpg"),
        ("/data/local-files/?d=../../etc/a.jpg", "a.jpg"),
        ("https://example.com/x/a.jpg?token=1#top", "a.jpg"),
        ("http://169.254.169.254/latest/a.jpg", "a.jpg"),
        ("s3://bucket/x/a.jpg", "a.jpg"),
        ("gs://bucket/K%C3%A4tzchen.jpg", "Kätzchen.jpg"),
        ("http://example.com/..%2F..%2Fetc%2Fpasswd.png", "passwd.png"),
        ("folder/a%20b.jpg", "a%20b.jpg"),
        ("C:\\photos\\a.jpg", "a.jpg"),
        (
            "/tasks/16/presign/?fileuri="
            + base64.b64encode(b"s3://bucket/out/046.png").decode().rstrip("="),
            "046.png",
        ),
    ],
)
def test_the_end_of_a_path_or_url_is_taken(tmp_path, value, name):
    (item,) = _read_raw(tmp_path, value)
    made.images(tmp_path / "images", name)
    assert made.names_found([item], tmp_path / "images") == [name]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"image": "/x/a.jpg", "other": "/x/b.jpg"}, "/x/a.jpg"),
        ({"img": "/x/a.png"}, "/x/a.png"),
        ({"img": "/x/a.jp2", "text": "a.txt"}, "/x/a.jp2"),
        ({"text": "a dog", "photo": "/x/a.JPEG", "n": 3}, "/x/a.JPEG"),
    ],
)
def test_the_field_of_the_image_is_found(tmp_path, data, name):
    (item,) = items(tmp_path, *keypoints(), data=data)
    assert item.image.file_name == name


def test_the_source_of_the_regions_names_the_field(tmp_path):
    data = {"before": "/x/a.jpg", "after": "/x/b.jpg"}
    (item,) = items(tmp_path, *keypoints(source="$after"), data=data)
    assert item.image.file_name == "/x/b.jpg"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"before": "/x/a.jpg", "after": "/x/b.jpg"}, "E102"),
        ({"text": "no image at all"}, "E102"),
        ({"image": None}, "E102"),
        ({}, "E102"),
        (None, "E102"),
        ("image", "E102"),
        ({"image": "data:image/png;base64,AAAA"}, "E112"),
        ({"image": "https://example.com/"}, "E112"),
        ({"image": "http://[bad/a.jpg"}, "E112"),
        ({"image": "/data/local-files/?d=.."}, "E112"),
        ({"image": "/x/presign/?fileuri=%FF%FF"}, "E112"),
        ({"image": "/x/a%00.jpg"}, "E112"),
        ({"image": ".."}, "E112"),
    ],
)
def test_a_task_without_a_file_name_is_rejected_with_its_regions(tmp_path, data, code):
    found = items(tmp_path, *keypoints(), rectangle(), data=data)
    assert [item.code for item in found] == [code] * 6
    assert found[0].record == "task 12"
    assert found[5].record == "task 12, region box"


# What is rejected


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"original_width": "200"}, "E104"),
        ({"original_height": -160}, "E104"),
        ({"original_width": 200.5}, "E104"),
        ({"image_rotation": "quarter"}, "E104"),
        ({"value": ...}, "E104"),
        ({"value": [1, 2]}, "E104"),
        ({"type": ...}, "E217"),
        ({"type": ["rectanglelabels"]}, "E217"),
    ],
)
@pytest.mark.parametrize("make", [keypoint, rectangle])
def test_malformed_regions_are_rejected_by_code(tmp_path, make, changes, code):
    rejected, image = items(tmp_path, make("r", **changes))
    assert rejected[:2] == ("task 12, region r", code)
    assert image == ImageItem(A_PATH)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({"x": ...}, "E104"),
        ({"y": "10"}, "E104"),
        ({"x": float("nan")}, "E104"),
        ({"width": float("inf")}, "E104"),
        ({"height": None}, "E104"),
        ({"rotation": "some"}, "E104"),
        ({"width": 0}, "E201"),
        ({"rectanglelabels": ...}, "E108"),
        ({"rectanglelabels": []}, "E108"),
        ({"rectanglelabels": "cat"}, "E108"),
        ({"rectanglelabels": ["cat", "dog"]}, "E108"),
        ({"rectanglelabels": [7]}, "E108"),
    ],
)
def test_malformed_values_are_rejected_by_code(tmp_path, value, code):
    rejected, _ = items(tmp_path, rectangle(of_value=value))
    assert rejected[:2] == ("task 12, region box", code)


@pytest.mark.parametrize("changes", [{"value": {"x": None}}, {"parentID": ["box"]}])
def test_a_faulty_keypoint_leaves_its_group_incomplete(tmp_path, changes):
    *three, _ = keypoints()
    found = items(tmp_path, *three, keypoint("bad", **changes))
    assert [item.code for item in found[:2]] == ["E104", "E207"]
    assert found[0].record == "task 12, region bad"


@pytest.mark.parametrize(
    "kind", ["brushlabels", "polygonlabels", "ellipselabels", "choices", "relation"]
)
def test_regions_without_extreme_clicks_are_rejected_with_a_reason(tmp_path, kind):
    rejected, _ = items(tmp_path, region(kind, "r", {kind: ["cat"]}))
    is_shape = kind not in ("choices", "relation")
    assert rejected.code == ("E217" if is_shape else "E221")
    assert kind in rejected.message


def test_regions_that_disagree_on_the_image_size_are_rejected(tmp_path):
    *three, _ = keypoints()
    rejected, _ = items(tmp_path, *three, keypoint("k3", original_width=300))
    assert rejected.code == "E110"
    assert "(200, 160), (300, 160)" in rejected.message


@pytest.mark.parametrize(
    ("content", "record"),
    [
        (5, "entry 0"),
        (task(annotations=...), "task 12"),
        (task(annotations={}), "task 12"),
        (task(5), "task 12, annotation 1"),
        (task(annotation(result=None)), "task 12, annotation 1"),
        (task(predictions={"a": 1}), "task 12"),
        (task(annotation(5)), "task 12, region #1"),
    ],
)
def test_malformed_tasks_are_rejected(tmp_path, content, record):
    found = items_of(tmp_path, [content])
    assert (found[0].record, found[0].code) == (record, "E102")


# Faults of the file


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        next(read(tmp_path / "nowhere.json"))


def test_json_min_is_refused_with_the_export_to_choose(tmp_path):
    value = {"x": 1, "y": 2, "width": 0.5, "keypointlabels": ["cat"]}
    entry = {"image": "/data/upload/1/a.jpg", "id": 12, "label": [value]}
    entry |= {"annotator": 1, "annotation_id": 5, "lead_time": 4.2}
    with pytest.raises(AnnotationError, match="export 'JSON'") as caught:
        items_of(tmp_path, [entry])
    assert caught.value.problems[0].code == "E102"
    assert "JSON-MIN" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "E101"),
        (json.dumps([task()]).encode()[:-5], "E101"),
        (json.dumps([task()]).encode("utf-16"), "E101"),
        (b"\xc3(", "E101"),
        (b"[" * 10**5, "E101"),
        ({"images": [], "annotations": []}, "E102"),
        ("tasks", "E102"),
        (None, "E102"),
    ],
)
def test_faults_of_the_file_are_raised(tmp_path, content, code):
    assert file_code(tmp_path, content) == code


def test_a_byte_order_mark_is_accepted(tmp_path):
    content = json.dumps([task(annotation(*keypoints()))]).encode("utf-8-sig")
    assert len(items_of(tmp_path, content)) == 1


def test_an_export_without_tasks_has_no_items(tmp_path):
    assert items_of(tmp_path, []) == []


# Properties

REGIONS = st.one_of(
    st.builds(
        keypoint,
        st.just("?"),
        st.integers(0, 3),
        st.sampled_from(["cat", "dog", None]),
        parentID=st.sampled_from([..., "r0", "r1", "nowhere"]),
        meta=st.sampled_from([..., {"text": ["one"]}]),
    ),
    st.builds(rectangle, of_value=st.sampled_from([(), {"rotation": 5}])),
    st.builds(region, st.just("choices"), st.just("?"), st.just({"choices": ["a"]})),
)


@settings(deadline=None, max_examples=80)
@given(regions=st.lists(REGIONS, max_size=12))
def test_every_region_is_in_one_object_or_rejected(tmp_path_factory, regions):
    for number, entry in enumerate(regions):
        entry["id"] = f"r{number}"
    found = items(tmp_path_factory.mktemp("tasks"), *regions)
    records = [item for item in found if not isinstance(item, ImageItem)]
    named = [
        name for item in records for name in item.record.split(" ", 3)[3].split(", ")
    ]
    owners = sum(
        isinstance(item, ObjectItem) and None not in (item.clicks, item.box)
        for item in records
    )
    assert len(named) + owners == len(regions)
    assert len(set(named)) == len(named)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
PARTS = ("id", "type", "value", "parentID", "meta", "group", "source")
SIZES = ("original_width", "original_height", "image_rotation")
VALUES = ("x", "y", "width", "height", "rotation", "rectanglelabels", "keypointlabels")
CODES = {
    "E102",
    "E104",
    "E108",
    "E110",
    "E112",
    "E201",
    "E207",
    "E215",
    "E217",
    "E218",
    "E221",
}


@settings(deadline=None, max_examples=200)
@given(
    make=st.sampled_from([keypoint, rectangle]),
    of_region=st.dictionaries(st.sampled_from(PARTS + SIZES), JUNK, max_size=2),
    value=st.dictionaries(st.sampled_from(VALUES), JUNK, max_size=2),
    of_annotation=st.dictionaries(
        st.sampled_from(["was_cancelled", "ground_truth", "result"]), JUNK, max_size=1
    ),
    of_task=st.dictionaries(
        st.sampled_from(["id", "data", "predictions", "drafts", "annotations"]),
        JUNK,
        max_size=1,
    ),
    image=JUNK,
)
def test_junk_in_any_field_gives_items_with_known_codes(
    tmp_path_factory, make, of_region, value, of_annotation, of_task, image
):
    marks = [*keypoints(parentID="r"), make("r", of_value=value, **of_region)]
    content = task(annotation(*marks, **of_annotation), data={"image": image})
    folder = tmp_path_factory.mktemp("tasks")
    found = items_of(folder, [content | of_task])
    assert found
    for item in found:
        if isinstance(item, Rejected):
            assert item.code in CODES
            assert "\n" not in item.record + item.message
        elif isinstance(item, ObjectItem) and item.clicks is not None:
            assert len(item.clicks) == 4


def test_a_shape_and_its_labels_as_separate_tags_are_one_region(tmp_path):
    value = {"x": 20, "y": 10, "width": 40, "height": 40, "rotation": 0}
    fields = {"original_width": 200, "original_height": 160, "image_rotation": 0}
    shapes = {"id": "r", "type": "rectangle", "value": value, **fields}
    named = {"id": "r", "type": "labels", "value": {**value, "labels": ["cell"]}}
    (item,) = items(tmp_path, shapes, {**named, **fields})
    assert item[:5] == (A_IMAGE, "cell", None, (20.0, 10.0, 60.0, 50.0), "percent")


def test_a_size_that_is_missing_is_left_to_the_image(tmp_path):
    (item,) = items(tmp_path, rectangle(original_width=..., original_height=...))
    assert item.image == ImageItem(A_PATH)


def test_keypoints_named_by_class_and_side_are_an_object(tmp_path):
    sides = ("top", "leftmost", "bottom", "right")
    regions = [
        keypoint(f"k{number}", number, f"cat {side}")
        for number, side in enumerate(sides)
    ]
    (item,) = items(tmp_path, *regions, rectangle())
    assert item.category == "cat" and len(item.clicks) == 4
    assert item.box is not None


def of_both(*more):
    """Four keypoints of a label, and four of the same with their sides."""
    named = [keypoint(f"s{n}", n, f"cat {side}") for n, side in enumerate(SIDES)]
    return [*keypoints(), *named, *more]


def test_keypoints_with_and_without_sides_are_two_objects(tmp_path):
    found = items(tmp_path, *of_both())
    assert [item.category for item in found] == ["cat", "cat"]


def test_a_rectangle_beside_both_is_of_neither(tmp_path):
    *found, refused = items(tmp_path, *of_both(rectangle()))
    assert [item.box for item in found] == [None, None]
    assert refused.code == "E217"


def test_a_region_a_little_over_the_edge_is_clipped_with_a_remark(tmp_path):
    images = made.images(tmp_path / "images")
    region_ = rectangle(of_value={"x": 70.0, "width": 33.0}.items())
    path = made.write_json(tmp_path / "t.json", [task(annotation(region_))])
    summary = write_items(read(path), tmp_path / "out.json", images)
    (instance,), report = made.read_back(summary, images)
    assert instance.box == (140, 16, 200, 80)
    assert report["remarked"]["W202"] == 1
