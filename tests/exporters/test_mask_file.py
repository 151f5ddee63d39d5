import numpy as np
import pytest
from PIL import Image

from exits_jax.data.coco_file import CocoFile
from exits_jax.data.records import AnnotationError
from exits_jax.exporters.mask_file import MaskFile, file_name
from exits_jax.exporters.report import Report
from tests.support import drawn_masks


def opened(folder, dataset, **options):
    path = drawn_masks.write(folder, dataset)
    source = CocoFile.read(path)
    report = Report("coco", len(source.annotations))
    return MaskFile(source, report, path=path, **options), report


def dataset(**changes):
    return drawn_masks.content(
        [drawn_masks.OBJECTS["holes"], drawn_masks.OBJECTS["line"]], **changes
    )


def codes(report):
    return [(entry[0], entry[1]) for entry in report.left_out]


def full(item):
    """The mask of an object in its image."""
    mask = drawn_masks.blank()
    height, width = item.mask.shape
    mask[item.top : item.top + height, item.left : item.left + width] = item.mask
    return mask


def test_images_come_with_their_objects_in_file_order(tmp_path):
    source = dataset()
    source["annotations"][1]["image_id"] = 8
    source["annotations"].append({**source["annotations"][0], "id": "third"})
    masks, report = opened(tmp_path, source)
    first, second = masks.images()
    assert [item.annotation_id for item in first.objects] == [1, "third"]
    assert [item.annotation_id for item in second.objects] == [2]
    assert (first.file_name, first.width, first.height) == (
        drawn_masks.NAME,
        drawn_masks.WIDTH,
        drawn_masks.HEIGHT,
    )
    assert report.left_out == []


def test_masks_are_cut_to_the_box_of_the_object(tmp_path):
    masks, _ = opened(tmp_path, dataset())
    item = next(masks.images()).objects[0]
    np.testing.assert_array_equal(full(item), drawn_masks.OBJECTS["holes"])
    for edge in (item.mask[0], item.mask[-1], item.mask[:, 0], item.mask[:, -1]):
        assert edge.any()


def test_polygons_and_uncompressed_run_lengths_are_read_too(tmp_path):
    source = dataset()
    region = drawn_masks.crowd(1, drawn_masks.OBJECTS["line"])["segmentation"]
    source["annotations"][0]["segmentation"] = region
    source["annotations"][1]["segmentation"] = [[2, 3, 9, 3, 9, 7, 2, 7]]
    masks, _ = opened(tmp_path, source)
    first, second = next(masks.images()).objects
    np.testing.assert_array_equal(full(first), drawn_masks.OBJECTS["line"])
    np.testing.assert_array_equal(full(second), drawn_masks.box(2, 3, 9, 7))


def test_numbered_classes_come_in_the_order_of_their_ids(tmp_path):
    source = dataset()
    source["categories"].append({"id": 2})
    masks, _ = opened(tmp_path, source)
    assert masks.categories == ["2", "<zebra>", 'dog & "cat"']
    assert [item.category for item in next(masks.images()).objects] == [2, 1]


def test_named_classes_keep_their_order_and_repeated_names_are_told_apart(tmp_path):
    names = [("b", "x"), ("a", "y"), ("c", "x")]
    source = drawn_masks.content(
        [], categories=[{"id": k, "name": n} for k, n in names]
    )
    masks, _ = opened(tmp_path, source)
    assert masks.categories == ["x (b)", "y", "x (c)"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"id": None}, "E105"),
        ({"id": 2}, "E105"),
        ({"image_id": 99}, "E107"),
        ({"image_id": [7]}, "E107"),
        ({"category_id": 99}, "E108"),
        ({"category_id": None}, "E108"),
        ({"score": "high"}, "E104"),
        ({"score": True}, "E104"),
        ({"iscrowd": "yes"}, "E104"),
        ({"segmentation": None}, "E212"),
        ({"segmentation": {"size": [60, 80], "counts": "~"}}, "E211"),
        ({"segmentation": {"size": [60, 81], "counts": [4860]}}, "E211"),
        ({"segmentation": {"size": [60, 80], "counts": [4800]}}, "E213"),
    ],
)
def test_a_faulty_record_is_left_out_with_its_code(tmp_path, change, code):
    source = dataset()
    source["annotations"].append({**source["annotations"][0], "id": 3, **change})
    masks, report = opened(tmp_path, source)
    assert len(next(masks.images()).objects) == 2
    assert [entry[1] for entry in report.left_out] == [code]
    is_known = change.get("image_id") is None
    assert report.warnings == ({"incomplete_images": 1} if is_known else {})


def test_a_low_score_is_left_out_and_a_missing_one_stays(tmp_path):
    source = dataset()
    source["annotations"][0]["score"] = 0.49
    del source["annotations"][1]["score"]
    source["annotations"].append(drawn_masks.crowd(50, drawn_masks.OBJECTS["border"]))
    masks, report = opened(tmp_path, source, min_score=0.5)
    kept = next(masks.images()).objects
    assert [(item.annotation_id, item.score) for item in kept] == [
        (2, None),
        (50, None),
    ]
    assert codes(report) == [(1, "E302")]
    assert "0.49 is below export.min_score 0.5" in report.left_out[0][2]


def test_the_size_of_an_image_may_come_from_a_mask_or_from_its_file(tmp_path):
    source = dataset(name="a.png")
    for image in source["images"]:
        del image["width"], image["height"]
    source["images"][1]["file_name"] = "b.png"
    Image.new("RGB", (5, 4)).save(tmp_path / "b.png")
    first, second = opened(tmp_path, source, images=tmp_path)[0].images()
    assert (first.width, first.height) == (drawn_masks.WIDTH, drawn_masks.HEIGHT)
    assert (second.width, second.height) == (5, 4)


def test_an_image_without_any_size_is_left_out(tmp_path):
    source = dataset(name="a.png")
    source["images"][0].pop("width")
    source["annotations"][0]["segmentation"] = [[2, 3, 9, 3, 9, 7, 2, 7]]
    masks, report = opened(tmp_path, source)
    assert [image.image_id for image in masks.images()] == [8]
    assert codes(report) == [(1, "E104"), (2, "E104")]
    assert report.warnings["unusable_images"] == 1


def test_an_absurd_size_is_not_drawn(tmp_path):
    source = dataset()
    source["images"][1] |= {"width": 10**6, "height": 10**6}
    source["annotations"][0]["image_id"] = 8
    masks, report = opened(tmp_path, source)
    assert [image.image_id for image in masks.images()] == [7]
    assert codes(report) == [(1, "E114")]


def test_the_names_of_lvis_come_from_the_tail_of_the_address(tmp_path):
    image = {"id": 1, "coco_url": "http://host/train2017/a.jpg"}
    assert file_name(image, None) == "a.jpg"
    assert file_name(image, tmp_path) == "a.jpg"
    (tmp_path / "train2017").mkdir()
    (tmp_path / "train2017" / "a.jpg").touch()
    assert file_name(image, tmp_path) == "train2017/a.jpg"


@pytest.mark.parametrize(
    "image", [{}, {"file_name": 5}, {"file_name": "../a"}, {"coco_url": "http://h/.."}]
)
def test_an_image_without_a_safe_name_is_refused(image):
    with pytest.raises(AnnotationError) as caught:
        file_name({"id": 1, **image}, None)
    assert caught.value.problems[0].code == "E112"


def test_provenance_is_that_of_the_file_if_it_has_any(tmp_path):
    assert opened(tmp_path, dataset())[0].provenance == drawn_masks.PROVENANCE
    for info in ({}, {"info": None}, {"info": {"exits_jax": 3}}):
        assert opened(tmp_path, {**dataset(info=None), **info})[0].provenance == {}
