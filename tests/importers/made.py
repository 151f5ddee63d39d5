"""Small images and JSONs for the tests of the importers."""

import json

from PIL import Image

from exits_jax.data.annotations import read_instances
from exits_jax.data.records import AnnotationError
from exits_jax.importers.image_table import ImageTable
from exits_jax.importers.items import ImageItem, ObjectItem

WIDTH, HEIGHT = 100, 80
POINTS = ((30.0, 10.0), (20.0, 25.0), (40.0, 50.0), (60.0, 30.0))  # as in SIDES


def images(folder, *names, size=(WIDTH, HEIGHT)):
    """A folder with one image per name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ("a.jpg",):
        Image.new("RGB", size).save(folder / name)
    return folder


def item(**changes):
    """An object of a.jpg with sound clicks."""
    fields = {
        "image": ImageItem("a.jpg"),
        "category": "cat",
        "clicks": POINTS,
        "box": None,
        "unit": "px",
        "record": "line 2",
    }
    return ObjectItem(**(fields | changes))


def read_back(summary, folder):
    """The instances of an import, read without a single problem; and the report."""
    instances = []
    if summary.output.exists():
        instances = read_instances(summary.output, folder, on_bad="error").instances
    assert len(instances) == summary.counts["objects"]
    report = json.loads(summary.report.read_text())
    counts = report["counts"]
    assert counts == summary.counts
    assert counts["records"] == counts["objects"] + counts["rejected"]
    assert counts["rejected"] == len(report["rejected"])
    return list(instances), report


def bare(items):
    """Items whose images have no more than their name and size."""
    return [_bare_item(item) for item in items]


def _bare_item(item):
    if isinstance(item, ObjectItem):
        return item._replace(image=ImageItem(*item.image[:3]))
    return ImageItem(*item[:3]) if isinstance(item, ImageItem) else item


def names_found(items, folder):
    """The file of each object; None where its image has none."""
    images = [item.image for item in items if isinstance(item, ObjectItem)]
    table = ImageTable(folder)
    found = [_name_found(table, image) for image in images]
    if table.contested:
        table = ImageTable(folder, known=table.contested)
        found = [_name_found(table, image) for image in images]
    return found


def _name_found(table, image):
    try:
        return table.find(image)[1].path
    except AnnotationError:
        return None


def coco(*records, images=None):
    """A COCO JSON around annotation records."""
    return {
        "images": images or [{"id": 7, "file_name": "a.jpg"}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": list(records),
    }


def write_json(path, value):
    """Writes what `json` makes of a value, NaN included."""
    path.write_text(json.dumps(value))
    return path
