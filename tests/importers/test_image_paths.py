"""Paths of other machines lead to the right image, or to none."""

import json

import pytest

from exits_jax.importers import coco_boxes, label_studio, labelme
from exits_jax.importers.items import ObjectItem, Rejected
from exits_jax.importers.json_files import tail_in
from tests.importers.test_label_studio import annotation, keypoints, rectangle, task
from tests.importers.test_labelme import content, shape


@pytest.fixture
def images(tmp_path):
    """Two images of one name in different folders, and one beside none."""
    folder = tmp_path / "images"
    for name in ("a.png", "s/a.png", "only.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.png", "a.png"),
        ("/home/me/images/a.png", "a.png"),
        ("/home/me/images/s/a.png", "s/a.png"),
        ("C:\\work\\s\\a.png", "s/a.png"),
        ("../../s/a.png", "s/a.png"),
        ("t/a.png", "a.png"),
        ("t/none.png", "none.png"),
    ],
)
def test_the_longest_end_that_is_a_file_is_taken(images, path, name):
    assert tail_in(path, images) == name


def _labeled(folder, images, *paths):
    tasks = [
        task(annotation(*keypoints()), id=number, data={"image": path})
        for number, path in enumerate(paths)
    ]
    (folder / "tasks.json").write_text(json.dumps(tasks))
    return list(label_studio.read(folder / "tasks.json", images))


def test_label_studio_tells_images_of_one_name_apart(tmp_path, images):
    local = "/data/local-files/?d=img/"
    items = _labeled(tmp_path, images, f"{local}a.png", f"{local}s/a.png")
    assert [item.image.file_name for item in items] == ["a.png", "s/a.png"]


def test_label_studio_gives_no_file_to_two_images(tmp_path, images):
    items = _labeled(tmp_path, images, "/x/only.png", "/y/only.png", "/x/only.png")
    assert [item.image.file_name for item in items if isinstance(item, ObjectItem)] == [
        "only.png",
        "only.png",
    ]
    refused = [item for item in items if isinstance(item, Rejected)]
    assert {item.code for item in refused} == {"E111"}
    assert len(refused) == 5  # the task and its four regions
    assert "stands for '/x/only.png'" in refused[0].message


def test_a_rectangle_beside_keypoints_of_its_label_is_their_box(tmp_path):
    (tmp_path / "t.json").write_text(
        json.dumps([task(annotation(rectangle(), *keypoints()))])
    )
    (item,) = label_studio.read(tmp_path / "t.json")
    assert item.clicks is not None and item.box is not None


def test_of_two_rectangles_beside_keypoints_none_is_taken(tmp_path):
    regions = [rectangle("one"), rectangle("two"), *keypoints()]
    (tmp_path / "t.json").write_text(json.dumps([task(annotation(*regions))]))
    item, *refused = label_studio.read(tmp_path / "t.json")
    assert item.clicks is not None and item.box is None
    assert [other.code for other in refused] == ["E217", "E217"]


def _files(folder, **paths):
    for name, path in paths.items():
        place = folder / f"{name.replace('__', '/')}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(content(shape(), imagePath=path)))


def test_labelme_paths_are_relative_to_their_json(tmp_path, images):
    _files(tmp_path, labels__x="../images/s/a.png", labels__y="../images/a.png")
    items = list(labelme.read(tmp_path / "labels", images))
    assert [item.image.file_name for item in items] == ["s/a.png", "a.png"]
    assert all(item.extra == {} for item in items)


def test_labelme_files_in_folders_below_are_read(images):
    _files(images, a="a.png", s__a="a.png")
    (images / "export_report.json").write_text("{}")
    items = list(labelme.read(images, images))
    assert [item.image.file_name for item in items] == ["a.png", "s/a.png"]
    assert items[1].record.startswith("s/a.json")


def test_an_end_of_a_labelme_path_that_is_taken_is_marked(tmp_path, images):
    _files(tmp_path, labels__x="/home/me/s/a.png")
    (item,) = labelme.read(tmp_path / "labels", images)
    assert item.image.file_name == "s/a.png"
    assert item.extra == {"flags": ["W217"]}


def test_images_without_a_name_are_found_by_their_url(tmp_path, images):
    url = "http://images.cocodataset.org/s/a.png"
    record = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}
    source = {
        "images": [{"id": 1, "coco_url": url, "width": 9, "height": 9}],
        "annotations": [record],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "lvis.json").write_text(json.dumps(source))
    image, item = coco_boxes.read(tmp_path / "lvis.json", images)
    assert image.file_name == item.image.file_name == "s/a.png"
