import json

import numpy as np
import pytest
from pycocotools.coco import COCO

from tests.support import drawn_masks

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


def dataset(**changes):
    return drawn_masks.content(drawn_masks.OBJECTS.values(), **changes)


def test_coco_is_a_copy(tmp_path):
    folder, report = drawn_masks.exported(tmp_path, "coco", dataset())
    copied = (folder / "instances.json").read_bytes()
    assert copied == (tmp_path / "pseudo_masks.json").read_bytes()
    assert report["counts"] == {
        "images": 2,
        "annotations": 10,
        "written": 10,
        "left_out": 0,
    }


def test_coco_without_what_is_left_out_keeps_all_other_fields(tmp_path):
    source = dataset()
    source["annotations"][3]["score"] = 0.2
    folder, report = drawn_masks.exported(tmp_path, "coco", source, min_score=0.5)
    found = json.loads((folder / "instances.json").read_text())
    del source["annotations"][3]
    assert found == source
    assert drawn_masks.reasons_of(report) == {4: "E302"}
    assert drawn_masks.warnings_of(report) == {"incomplete_images": 1}


def test_polygons_give_every_mask_back_exactly(tmp_path):
    folder, report = drawn_masks.exported(tmp_path, "coco_polygons", dataset())
    found = COCO(str(folder / "instances.json"))
    for identity, mask in enumerate(drawn_masks.OBJECTS.values(), start=1):
        record = found.anns[identity]
        assert isinstance(record["segmentation"], list)
        np.testing.assert_array_equal(found.annToMask(record), mask)
    assert drawn_masks.warnings_of(report) == {"bridged_holes": 3}


def test_polygons_keep_ids_order_and_further_fields(tmp_path):
    source = dataset()
    folder, _ = drawn_masks.exported(tmp_path, "coco_polygons", source)
    found = json.loads((folder / "instances.json").read_text())
    for record in (*found["annotations"], *source["annotations"]):
        del record["segmentation"]
    assert found == source


def test_a_crowd_region_keeps_its_run_lengths_beside_polygons(tmp_path):
    source = dataset()
    source["annotations"].append(drawn_masks.crowd(50, drawn_masks.disc(40, 30, 12)))
    folder, report = drawn_masks.exported(tmp_path, "coco_polygons", source)
    record = json.loads((folder / "instances.json").read_text())["annotations"][-1]
    assert record == source["annotations"][-1]
    assert report["counts"]["written"] == 11


@pytest.mark.parametrize("kind", ["coco", "coco_polygons"])
def test_a_record_with_a_number_that_json_cannot_hold_is_left_out(tmp_path, kind):
    source = dataset()
    source["annotations"][0]["note"] = float("nan")
    source["annotations"][1]["score"] = 0.1
    folder, report = drawn_masks.exported(tmp_path, kind, source, min_score=0.5)
    assert drawn_masks.reasons_of(report) == {1: "E104", 2: "E302"}
    assert len(json.loads((folder / "instances.json").read_text())["annotations"]) == 8
