"""The job chooses its classes by key, of which there are ten."""

import json
import sys

import pytest

pytest.importorskip("playwright.sync_api", reason="needs playwright")

from benchmarks import annotate_job  # noqa: E402


def source(path, num_classes):
    """A file of 80 classes, of which the last ones occur, on an image each."""
    numbers = range(80 - num_classes, 80)
    square = [10, 10, 70, 10, 70, 70, 10, 70]
    size = {"width": 100, "height": 80}
    found = {
        "images": [{"id": k, "file_name": f"{k}.jpg", **size} for k in numbers],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(80)],
        "annotations": [
            {"image_id": k, "category_id": k, "area": 3600, "segmentation": [square]}
            for k in numbers
        ],
    }
    path.write_text(json.dumps(found))
    return path


def test_only_the_classes_that_occur_get_keys(tmp_path):
    names, objects = annotate_job.chosen(source(tmp_path / "a.json", 2), 30)
    assert names == ["class 78", "class 79"] and len(objects) == 2


def test_more_classes_than_keys_are_refused_before_anything_is_made(
    tmp_path, monkeypatch, capsys
):
    words = [str(source(tmp_path / "a.json", 11)), str(tmp_path), str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["annotate_job", *words, "--encoder=none"])
    with pytest.raises(SystemExit):
        annotate_job.main()
    assert "11 classes, and 10 have a key" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
