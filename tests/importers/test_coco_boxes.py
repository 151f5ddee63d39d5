import pytest

from exits_jax.importers import coco_boxes
from exits_jax.importers.write import write_items
from tests.importers import made


@pytest.fixture
def folder(tmp_path):
    return made.images(tmp_path / "images", "a.jpg", "b.jpg")


def run(folder, *records, **options):
    path = made.write_json(folder.parent / "boxes.json", made.coco(*records, **options))
    return write_items(coco_boxes.read(path), folder.parent / "in.json", folder)


def record(number, bbox=(20, 10, 41.5, 41.25), **changes):
    known = {"id": number, "image_id": 7, "category_id": 3, "bbox": list(bbox)}
    return known | changes


def test_every_object_is_a_box_alone(folder):
    points = [[30, 10], [20, 25], [40, 50], [60, 30]]
    mask = [[20, 25, 30, 10, 60, 30, 40, 50]]
    records = [record(1), record(2, extreme_points=points, segmentation=mask)]
    instances, report = made.read_back(run(folder, *records), folder)
    assert [one.flags for one in instances] == [("box_only",)] * 2
    assert [one.box for one in instances] == [(20, 10, 61.5, 51.25)] * 2
    assert report["counts"]["box_only"] == 2


def test_boxes_of_the_coco_site_come_back_to_the_hundredth(folder):
    boxes = [(217.62 / 4, 24.54, 38.99, 57.75 / 2), (1.0, 24.04, 98.0, 55.96)]
    records = [
        record(n, map(lambda v: round(v, 2), box)) for n, box in enumerate(boxes)
    ]
    instances, _ = made.read_back(run(folder, *records), folder)
    for one, made_from in zip(instances, records):
        x0, y0, x1, y1 = one.box
        assert [x0, y0, x1 - x0, y1 - y0] == pytest.approx(made_from["bbox"], abs=1e-3)


def test_images_without_objects_are_kept(folder):
    images = [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}]
    summary = run(folder, record(1), images=images)
    assert summary.counts["images"] == 2


@pytest.mark.parametrize(
    "changes, code",
    [
        (dict(bbox=[20, 10, 0, 5]), "E201"),
        (dict(bbox=[-50, 10, 20, 5]), "E203"),
        (dict(bbox=None), "E207"),
        (dict(bbox=["a", 1, 2, 3]), "E104"),
        (dict(bbox=[0.1, 0.2, 0.3, 0.4]), "E209"),
        (dict(iscrowd=1), "E219"),
    ],
)
def test_what_cannot_be_used_is_in_the_report(folder, changes, code):
    summary = run(folder, record(1), record(2) | changes)
    _, report = made.read_back(summary, folder)
    assert report["codes"] == {code: 1} and summary.counts["records"] == 2


def test_a_box_beyond_the_image_is_clipped_when_it_is_read(folder):
    instances, report = made.read_back(run(folder, record(1, (60, 10, 70, 20))), folder)
    assert instances[0].box == (60, 10, 100, 30)
    assert report["remarked"] == {"W202": 1}


def test_ids_that_are_text_are_remarked_in_the_report(tmp_path):
    folder = made.images(tmp_path / "images")
    records = [
        {"id": key, "image_id": image_id, "category_id": 3, "bbox": [20, 10, 41, 41]}
        for key, image_id in enumerate(("7", 7), 1)
    ]
    source = made.write_json(tmp_path / "source.json", made.coco(*records))
    summary = write_items(coco_boxes.read(source), tmp_path / "in.json", folder)
    _, report = made.read_back(summary, folder)
    assert report["remarked"] == {"W107": 1}
    assert report["remarks"][0]["record"] == "annotation 1"
