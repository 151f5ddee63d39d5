import numpy as np
import pytest
from PIL import Image

from exits_jax.exporters.voc_png import palette
from tests.support import drawn_masks

NAME = 'train2017/a & b <"ü">'


def read(folder, name=NAME):
    """The classes and the objects of an image."""
    return [
        np.array(Image.open(folder / kind / f"{name}.png"))
        for kind in ("SegmentationClass", "SegmentationObject")
    ]


def apart():
    """Objects that do not overlap."""
    return [
        drawn_masks.OBJECTS[name]
        for name in ("two parts", "four parts", "holes", "one pixel", "border")
    ]


def test_the_palette_is_that_of_voc():
    colours = palette().tolist()
    assert colours[:4] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert colours[15:17] == [[192, 128, 128], [0, 64, 0]]
    assert colours[255] == [224, 224, 192]
    assert len({tuple(colour) for colour in colours}) == 256


def test_objects_that_do_not_overlap_come_back_exactly(tmp_path):
    folder, report = drawn_masks.exported(tmp_path, "voc", drawn_masks.content(apart()))
    classes, objects = read(folder)
    for number, mask in enumerate(apart(), start=1):
        np.testing.assert_array_equal(objects == number, mask)
        # Category 4 comes before category 9.
        assert set(classes[mask]) == {(2, 1)[(number - 1) % 2]}
    background = ~np.any(apart(), axis=0)
    assert not objects[background].any() and not classes[background].any()
    assert drawn_masks.warnings_of(report) == {"lost_scores": 5, "unlinked_images": 1}


def test_files_are_palette_images_and_listed(tmp_path):
    folder, _ = drawn_masks.exported(tmp_path, "voc", drawn_masks.content(apart()))
    with Image.open(folder / "SegmentationObject" / f"{NAME}.png") as image:
        assert image.mode == "P"
        assert image.getpalette() == palette().ravel().tolist()
    listed = (folder / "ImageSets/Segmentation/train.txt").read_text("utf-8")
    assert listed.splitlines() == [NAME, "train2017/empty"]
    assert not np.any(read(folder, "train2017/empty"))


def test_the_label_map_names_every_value(tmp_path):
    source = drawn_masks.content(apart())
    source["categories"][0]["name"] = "a:b\nc"
    folder, report = drawn_masks.exported(tmp_path, "voc", source)
    lines = (folder / "labelmap.txt").read_text().splitlines()
    assert lines[1:] == ["background:0,0,0::", "<zebra>:128,0,0::", "a b c:0,128,0::"]
    assert drawn_masks.warnings_of(report)["renamed_classes"] == 1


def test_smaller_objects_lie_over_larger_ones_and_what_they_hide_is_counted(tmp_path):
    masks = [
        drawn_masks.disc(40, 30, 6),
        drawn_masks.disc(40, 30, 12),
        drawn_masks.disc(40, 30, 3),
    ]
    folder, report = drawn_masks.exported(tmp_path, "voc", drawn_masks.content(masks))
    _, objects = read(folder)
    np.testing.assert_array_equal(objects == 3, masks[2])
    np.testing.assert_array_equal(objects == 1, masks[0] & ~masks[2])
    np.testing.assert_array_equal(objects == 2, masks[1] & ~masks[0])
    found = drawn_masks.warnings_of(report)
    assert found["hidden_pixels"] == masks[0].sum() + masks[2].sum()
    assert found["overlapping_objects"] == 2


def test_an_object_that_others_cover_is_left_out_and_numbers_stay_in_turn(tmp_path):
    halves = [drawn_masks.box(10, 10, 20, 15), drawn_masks.box(10, 15, 20, 20)]
    masks = [drawn_masks.box(10, 10, 20, 20), *halves]
    folder, report = drawn_masks.exported(tmp_path, "voc", drawn_masks.content(masks))
    _, objects = read(folder)
    np.testing.assert_array_equal(objects == 1, halves[0])
    np.testing.assert_array_equal(objects == 2, halves[1])
    assert drawn_masks.reasons_of(report) == {1: "E305"}


def test_more_than_254_objects_are_void_and_not_background(tmp_path):
    corners = [(x, y) for x in range(0, 80, 4) for y in range(0, 60, 4)][:257]
    masks = [drawn_masks.box(x, y, x + 2, y + 2) for x, y in corners]
    masks[5], masks[9], masks[11] = (
        drawn_masks.box(x, y, x + 1, y + 1) for x, y in (corners[k] for k in (5, 9, 11))
    )
    folder, report = drawn_masks.exported(tmp_path, "voc", drawn_masks.content(masks))
    classes, objects = read(folder)
    assert drawn_masks.reasons_of(report) == {6: "E304", 10: "E304", 12: "E304"}
    assert drawn_masks.warnings_of(report)["void_objects"] == 3
    for k in (5, 9, 11):
        assert set(objects[masks[k]]) == set(classes[masks[k]]) == {255}
    assert objects[objects < 255].max() == 254


def test_a_class_beyond_the_254th_is_void(tmp_path):
    source = drawn_masks.content(
        [drawn_masks.box(3, 3, 9, 9), drawn_masks.box(20, 3, 29, 9)]
    )
    source["categories"] = [{"id": k, "name": f"class {k}"} for k in range(1, 301)]
    source["annotations"][0]["category_id"] = 254
    source["annotations"][1]["category_id"] = 255
    folder, report = drawn_masks.exported(tmp_path, "voc", source)
    classes, _ = read(folder)
    assert (classes[5, 5], classes[5, 25]) == (254, 255)
    assert drawn_masks.reasons_of(report) == {2: "E304"}


def test_a_crowd_region_is_void_where_no_object_lies(tmp_path):
    region, item = drawn_masks.disc(40, 30, 15), drawn_masks.disc(40, 30, 5)
    source = drawn_masks.content([item])
    source["annotations"].append(drawn_masks.crowd(50, region))
    folder, report = drawn_masks.exported(tmp_path, "voc", source)
    classes, objects = read(folder)
    np.testing.assert_array_equal(objects == 255, region & ~item)
    np.testing.assert_array_equal(classes == 255, region & ~item)
    assert drawn_masks.reasons_of(report) == {50: "E303"}


@pytest.mark.parametrize("reach", [1, 3])
def test_the_void_border_lies_on_both_sides_of_an_edge(tmp_path, reach):
    mask = drawn_masks.box(20, 20, 40, 40)
    source = drawn_masks.content([mask])
    folder, _ = drawn_masks.exported(tmp_path, "voc", source, void_border_px=reach)
    inner = drawn_masks.box(20 + reach, 20 + reach, 40 - reach, 40 - reach)
    outer = drawn_masks.box(20 - reach, 20 - reach, 40 + reach, 40 + reach)
    _, objects = read(folder)
    np.testing.assert_array_equal(objects == 1, inner)
    np.testing.assert_array_equal(objects == 255, outer & ~inner)


def test_an_object_under_the_void_border_is_left_out(tmp_path):
    source = drawn_masks.content(
        [drawn_masks.box(20, 20, 22, 22), drawn_masks.box(40, 20, 60, 40)]
    )
    _, report = drawn_masks.exported(tmp_path, "voc", source, void_border_px=2)
    assert drawn_masks.reasons_of(report) == {1: "E305"}


def test_images_are_linked_not_copied(tmp_path):
    (tmp_path / "photos").mkdir()
    source = drawn_masks.content(apart())
    folder, _ = drawn_masks.exported(
        tmp_path, "voc", source, images=tmp_path / "photos"
    )
    assert (folder / "JPEGImages").is_symlink()
    assert (folder / "JPEGImages").resolve() == (tmp_path / "photos").resolve()
