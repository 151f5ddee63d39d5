"""Time is linear in what a source holds, and outputs replace nothing but files."""

import os
import time

import pytest

from exits_jax.data.annotations import read_instances
from exits_jax.importers import cvat_xml, label_studio
from exits_jax.importers.items import ImageItem, ObjectItem, Rejected
from exits_jax.importers.write import write_items
from exits_jax.run.workdir import ConfigError
from tests.importers import made, sources
from tests.importers.test_imports_phase import run as run
from tests.importers.test_label_studio import annotation, rectangle, task


def test_a_number_of_any_length_is_refused_at_once(tmp_path):
    path = tmp_path / "annotations.xml"
    shape = f'<points label="cat" points="{"9" * 100_000}x,1;2,3;4,5;6,7"/>'
    image = f'<image id="0" name="a.jpg" width="9" height="9">{shape}</image>'
    path.write_text(f"<annotations>{image}</annotations>")
    start = time.process_time()
    rejected, _ = cvat_xml.read(path)
    assert isinstance(rejected, Rejected) and rejected.code == "E104"
    assert time.process_time() - start < 2


def test_thousands_of_rectangles_in_a_task_are_read_in_linear_time(tmp_path):
    regions = [rectangle(f"r{number}") for number in range(4000)]
    path = made.write_json(tmp_path / "t.json", [task(annotation(*regions))])
    start = time.process_time()
    items = list(label_studio.read(path))
    assert sum(isinstance(item, ObjectItem) for item in items) == 4000
    assert time.process_time() - start < 4


def test_what_is_no_regular_file_is_not_replaced(run, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="no regular file"):
        run.go("csv", sources.csv(tmp_path), out=str(tmp_path / "pipe"))


def test_a_missing_name_of_many_parts_is_refused_in_linear_time(tmp_path):
    item = made.item(image=ImageItem("x/" * 100_000 + "a.jpg"))
    start = time.process_time()
    summary = write_items([item], tmp_path / "out.json", made.images(tmp_path / "i"))
    assert list(summary.rejected) == ["E111"]
    assert time.process_time() - start < 2


def test_thousands_of_images_that_lead_to_one_file_are_refused_in_linear_time(tmp_path):
    images = made.images(tmp_path / "i")
    names = [f"/shots/{number}/a.jpg" for number in range(1_500)]
    start = time.process_time()
    items = [made.item(image=ImageItem(name, 9, 9)) for name in names]
    summary = write_items(items, tmp_path / "out.json", images)
    assert summary.rejected["E111"][0] == 1_500
    entries = [
        {"id": number, "file_name": name, "width": 9, "height": 9}
        for number, name in enumerate(names)
    ]
    records = [{"id": n, "image_id": n, "category_id": 3} for n in range(1_500)]
    source = made.write_json(tmp_path / "t.json", made.coco(*records, images=entries))
    found = read_instances(source, images, max_skip_fraction=1.0)
    assert len(found.skipped) == 1_500
    assert time.process_time() - start < 10
