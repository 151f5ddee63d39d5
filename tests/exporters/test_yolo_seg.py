import ast

import cv2
import numpy as np
import pytest

from tests.support import drawn_masks


def read(path):
    """Class and vertices in pixels of each line, read as Ultralytics reads them."""
    found = []
    for line in path.read_text().splitlines():
        number, *values = line.split()
        shares = np.array(values, np.float32).reshape(-1, 2)
        pixels = shares * np.array([drawn_masks.WIDTH, drawn_masks.HEIGHT], np.float32)
        found.append((int(number), pixels))
    return found


def fill(vertices):
    """Ultralytics' rasteriser: whole pixels, filled by OpenCV."""
    canvas = np.zeros((drawn_masks.HEIGHT, drawn_masks.WIDTH), np.uint8)
    cv2.fillPoly(canvas, [vertices.astype(np.int32)], 1)
    return canvas > 0


def label_of(folder, name=drawn_masks.NAME):
    return (folder / "labels" / name).with_suffix(".txt")


@pytest.mark.parametrize("name", [n for n in drawn_masks.OBJECTS if "parts" not in n])
def test_an_object_of_one_part_comes_back_exactly(tmp_path, name):
    source = drawn_masks.content([drawn_masks.OBJECTS[name]])
    folder, report = drawn_masks.exported(tmp_path, "yolo_seg", source)
    ((number, vertices),) = read(label_of(folder))
    assert number == 1  # category 9 comes after category 4
    np.testing.assert_array_equal(fill(vertices), drawn_masks.OBJECTS[name])
    assert "bridged_parts" not in drawn_masks.warnings_of(report)


@pytest.mark.parametrize("name", [n for n in drawn_masks.OBJECTS if "parts" in n])
def test_bridges_between_parts_add_lines_of_one_pixel_and_are_counted(tmp_path, name):
    mask = drawn_masks.OBJECTS[name]
    folder, report = drawn_masks.exported(
        tmp_path, "yolo_seg", drawn_masks.content([mask])
    )
    ((_, vertices),) = read(label_of(folder))
    found = fill(vertices)
    assert not (mask & ~found).any()
    extra = (found & ~mask).astype(np.uint8)
    assert 0 < extra.sum() < 40
    assert not cv2.erode(extra, np.ones((2, 2), np.uint8)).any()
    assert drawn_masks.warnings_of(report)["bridged_parts"] == 1


def test_large_objects_of_several_parts_agree_to_99_percent(tmp_path):
    mask = (
        drawn_masks.box(1, 1, 38, 59)
        | drawn_masks.box(41, 1, 79, 28)
        | drawn_masks.box(41, 31, 79, 59)
    )
    folder, _ = drawn_masks.exported(tmp_path, "yolo_seg", drawn_masks.content([mask]))
    ((_, vertices),) = read(label_of(folder))
    assert drawn_masks.iou(fill(vertices), mask) >= 0.99


def test_coordinates_are_shares_of_the_image(tmp_path):
    source = drawn_masks.content(drawn_masks.OBJECTS.values())
    folder, _ = drawn_masks.exported(tmp_path, "yolo_seg", source)
    lines = label_of(folder).read_text().splitlines()
    values = [float(value) for line in lines for value in line.split()[1:]]
    assert len(lines) == len(drawn_masks.OBJECTS)
    assert 0 <= min(values) and max(values) <= 1
    assert all(len(line.split()) >= 9 for line in lines)


def test_an_image_without_objects_has_an_empty_file(tmp_path):
    folder, _ = drawn_masks.exported(tmp_path, "yolo_seg", drawn_masks.content([]))
    assert label_of(folder, "train2017/empty.jpg").read_text() == ""


def test_names_are_quoted_for_yaml(tmp_path):
    source = drawn_masks.content([])
    source["categories"] = [
        {"id": 1, "name": 'a: "b" #\\'},
        {"id": 2, "name": "line\nbreak\u2028\x85"},
        {"id": 3, "name": "Zürich \N{CAT FACE}"},
    ]
    folder, _ = drawn_masks.exported(tmp_path, "yolo_seg", source)
    lines = (folder / "data.yaml").read_text("utf-8").split("\n")
    start = lines.index("names:") + 1
    names = {}
    for line in lines[start : start + 3]:
        number, quoted = line.split(": ", maxsplit=1)
        names[int(number)] = ast.literal_eval(quoted)  # the same escapes as YAML's
    assert names == {k: c["name"] for k, c in enumerate(source["categories"])}
    assert lines[start + 3 :] == [""]


def test_images_are_linked_where_ultralytics_looks_for_labels_beside(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    source = drawn_masks.content([drawn_masks.OBJECTS["holes"]])
    folder, _ = drawn_masks.exported(tmp_path, "yolo_seg", source, images=photos)
    for line in (folder / "train.txt").read_text("utf-8").splitlines():
        image = str(folder / line)
        before, after = image.rsplit("/images/", 1)
        assert (folder / "images").resolve() == photos.resolve()
        assert label_of(folder, after).exists()
        assert before == str(folder)


def test_a_folder_of_that_name_in_the_file_names_is_linked_itself(tmp_path):
    (tmp_path / "photos/images/train").mkdir(parents=True)
    source = drawn_masks.content(
        [drawn_masks.OBJECTS["holes"]], name="images/train/a.jpg"
    )
    del source["images"][1]
    folder, _ = drawn_masks.exported(
        tmp_path, "yolo_seg", source, images=tmp_path / "photos"
    )
    assert (folder / "train.txt").read_text() == "./images/train/a.jpg\n"
    assert (folder / "images").resolve() == (tmp_path / "photos/images").resolve()
    assert (folder / "labels/train/a.txt").exists()


def test_file_names_whose_labels_would_not_be_found_are_refused(tmp_path):
    source = drawn_masks.content([drawn_masks.OBJECTS["holes"]], name="images/a.jpg")
    source["annotations"][0]["image_id"] = 8  # "train2017/empty.jpg", the second
    folder, report = drawn_masks.exported(tmp_path, "yolo_seg", source)
    assert drawn_masks.reasons_of(report) == {1: "E306"}
    assert (folder / "train.txt").read_text() == "./images/a.jpg\n"


def test_crowd_regions_and_scores_are_reported(tmp_path):
    source = drawn_masks.content([drawn_masks.OBJECTS["holes"]])
    source["annotations"].append(drawn_masks.crowd(50, drawn_masks.disc(40, 30, 12)))
    folder, report = drawn_masks.exported(tmp_path, "yolo_seg", source)
    assert len(read(label_of(folder))) == 1
    assert drawn_masks.reasons_of(report) == {50: "E303"}
    assert drawn_masks.warnings_of(report) == {
        "lost_scores": 1,
        "bridged_holes": 2,
        "unlinked_images": 1,
    }


def test_outlines_that_ultralytics_thins_out_are_counted(tmp_path):
    comb = drawn_masks.box(0, 0, 80, 20)
    comb[5:20:2, ::2] = False
    comb[5:20, 1::4] = True
    _, report = drawn_masks.exported(tmp_path, "yolo_seg", drawn_masks.content([comb]))
    assert drawn_masks.warnings_of(report)["long_outlines"] == 1
