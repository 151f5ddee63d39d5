import copy
import hashlib
import json
import tracemalloc

import numpy as np
import pytest
from pycocotools.coco import COCO

from exits_jax.data import rle
from exits_jax.data.coco_file import CocoFile, Records
from exits_jax.data.records import Problem
from exits_jax.labeling import pseudo_masks

CROWD_COUNTS = {"size": [20, 30], "counts": [0, 100, 500]}


def square(left=5, top=4, side=6):
    mask = np.zeros((20, 30), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def row(annotation_id, mask=None, **changes):
    packed = rle.encode(square() if mask is None else mask)
    made = pseudo_masks.PseudoInstance(
        annotation_id, packed, 0.9, (1, 1, 0, 1), 0.8, 1, ()
    )
    return made._replace(**changes)


def source(**crowd):
    crowd = {"segmentation": CROWD_COUNTS, **crowd}
    common = {"image_id": 1, "category_id": 7}
    return {
        "info": {"year": 2024},
        "licenses": [{"id": 4}],
        "images": [{"id": 1, "file_name": "a.jpg", "height": 20, "width": 30}],
        "categories": [{"id": 7, "name": "cat"}],
        "annotations": [
            {"id": 12, **common, "bbox": [5, 4, 6, 7.5], "iscrowd": 0, "note": "x"},
            {"id": 3, **common, "bbox": [0, 0, 9, 9], "iscrowd": 1, **crowd},
            {"id": 8, **common, "extreme_points": [[1, 2], [3, 4], [5, 6], [7, 8]]},
            {"id": 5, **common, "bbox": [0, 0, 0, 0]},
        ],
    }


SKIPPED = {3: Problem(5, "empty_box", "Annotation 5: its box has no area.")}


def write(folder, *, rows=None, skipped=SKIPPED, dataset=None, info=None):
    """Writes what became of the annotations, given by their place in the source."""
    rows = {0: row(12), 2: row(8)} if rows is None else rows
    dataset = source() if dataset is None else dataset
    outcomes = sorted({**rows, **skipped}.items())
    pseudo_masks.write_coco(
        folder, CocoFile("source", dataset), outcomes, info or {"version": "1"}
    )
    return json.loads((folder / "pseudo_masks.json").read_text())


def test_keeps_the_order_the_ids_and_the_extra_fields(tmp_path):
    result = write(tmp_path)
    assert [record["id"] for record in result["annotations"]] == [12, 3, 8]
    assert result["annotations"][0]["note"] == "x"
    assert result["annotations"][2]["extreme_points"][0] == [1, 2]
    for key in ("images", "categories", "licenses"):
        assert result[key] == source()[key]
    assert result["info"] == {"year": 2024, "exits_jax": {"version": "1"}}


def test_a_labeled_record_carries_its_mask_and_its_quality(tmp_path):
    record = write(tmp_path)["annotations"][0]
    np.testing.assert_array_equal(rle.decode(record["segmentation"]), square())
    assert (record["area"], record["score"], record["iscrowd"]) == (36, 0.9, 0)
    assert record["exits"] == {
        "score": 0.9,
        "click_hit": [1, 1, 0, 1],
        "box_iou": 0.8,
        "num_parts": 1,
        "flags": [],
    }


def test_the_box_is_kept_and_added_only_when_absent(tmp_path):
    annotations = write(tmp_path)["annotations"]
    assert annotations[0]["bbox"] == [5, 4, 6, 7.5]
    assert annotations[2]["bbox"] == [5, 4, 6, 6]


@pytest.mark.parametrize("box", [None, [], [1, 2, float("nan"), 3], [1, 2, 0, 3], "x"])
def test_a_box_that_is_none_is_replaced_by_that_of_the_mask(tmp_path, box):
    dataset = source()
    dataset["annotations"][2]["bbox"] = box
    record = write(tmp_path, dataset=dataset)["annotations"][2]
    assert record["bbox"] == [5, 4, 6, 6]


def test_the_source_is_left_unchanged(tmp_path):
    dataset = source()
    before = copy.deepcopy(dataset)
    write(tmp_path, dataset=dataset)
    assert dataset == before


@pytest.mark.parametrize(
    "segmentation",
    [CROWD_COUNTS, rle.encode(square()), [[2, 2, 9, 2, 9, 9, 2, 9]]],
)
def test_a_crowd_with_a_mask_passes_through(tmp_path, segmentation):
    dataset = source(segmentation=segmentation)
    crowd = write(tmp_path, dataset=dataset)["annotations"][1]
    expected = {**dataset["annotations"][1], "exits": {"flags": ["crowd_kept"]}}
    assert crowd == json.loads(json.dumps(expected))


def test_a_skipped_crowd_is_left_out(tmp_path):
    result = write(
        tmp_path,
        skipped={**SKIPPED, 1: Problem(3, "bad", "Annotation 3: bad.")},
    )
    assert [record["id"] for record in result["annotations"]] == [12, 8]


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, float("nan")]],
        {"size": [20, 30], "counts": [1, 2]},
        {"size": [20, 30], "counts": [-1, 601]},
        {"size": [20, 30], "counts": [600]},
        {"size": [30, 20], "counts": [0, 600]},
        {"counts": [0, 600]},
        rle.encode(np.zeros((20, 30), bool)),
    ],
)
def test_a_crowd_without_a_sound_mask_must_be_skipped(tmp_path, segmentation):
    with pytest.raises(ValueError, match="the first: 3"):
        write(tmp_path, dataset=source(segmentation=segmentation))


def test_loads_in_pycocotools(tmp_path, capsys):
    write(tmp_path)
    loaded = COCO(str(tmp_path / "pseudo_masks.json"))
    assert sorted(loaded.anns) == [3, 8, 12]
    assert loaded.annToRLE(loaded.anns[12]) == loaded.anns[12]["segmentation"]
    results = loaded.loadRes(loaded.loadAnns([12, 8]))
    assert [a["score"] for a in results.anns.values()] == [0.9, 0.9]


def test_skipped_and_manifest_account_for_every_annotation(tmp_path):
    write(tmp_path)
    skipped = json.loads((tmp_path / "skipped.json").read_text())
    assert skipped == [dict(zip(("id", "code", "message"), SKIPPED[3]))]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["counts"] == {
        "images": 1,
        "annotations": 4,
        "pseudo_masks": 2,
        "crowds_kept": 1,
        "skipped": 1,
    }


def test_manifest_holds_the_digests_of_the_files(tmp_path):
    write(tmp_path)
    files = json.loads((tmp_path / "manifest.json").read_text())["files"]
    for name in ("pseudo_masks.json", "skipped.json"):
        data = (tmp_path / name).read_bytes()
        assert files[name]["sha256"] == hashlib.sha256(data).hexdigest()
        assert files[name]["bytes"] == len(data)


def test_writes_the_same_bytes_twice_and_leaves_no_temporary_file(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b")
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {"pseudo_masks.json", "skipped.json", "manifest.json"}
    for name in names:
        first = (tmp_path / "a" / name).read_bytes()
        assert first == (tmp_path / "b" / name).read_bytes()


def test_of_two_records_with_one_id_the_first_gets_the_mask(tmp_path):
    dataset = source()
    dataset["annotations"].append({**dataset["annotations"][0], "note": "second"})
    twice = Problem(12, "duplicate_id", "Annotation 12: its id occurs twice.")
    skipped = {**SKIPPED, 4: twice}
    result = write(tmp_path, dataset=dataset, skipped=skipped)
    assert [record.get("note") for record in result["annotations"]] == ["x", None, None]


def test_names_the_record_that_carries_a_number_that_is_not_finite(tmp_path):
    dataset = source()
    dataset["annotations"][2]["weight"] = float("inf")
    with pytest.raises(ValueError, match="Annotation 8: one of its fields"):
        write(tmp_path, dataset=dataset)


def test_records_without_a_usable_id_are_left_out_when_skipped(tmp_path):
    dataset = source()
    dataset["annotations"] += [None, {"image_id": 1}, {"id": [1]}]
    with pytest.raises(ValueError, match="the first: None"):
        write(tmp_path, dataset=dataset)
    nameless = Problem(None, "no_id", "The entry has no id.")
    skipped = {**SKIPPED, 4: nameless, 5: nameless, 6: nameless}
    result = write(tmp_path, dataset=dataset, skipped=skipped)
    assert [record["id"] for record in result["annotations"]] == [12, 3, 8]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({0: row(12)}, "the first: 8"),
        ({0: row(12), 1: row(8), 2: row(8)}, "Entry 1 .* has the id 3, .* names 8"),
        ({0: row(12), 2: row(99)}, "Entry 2 .* has the id 8, .* names 99"),
        ({0: row(12), 2: row(8), 9: row(99)}, "annotation 99 has the place 9, but"),
        ({0: row(12, np.zeros((20, 30), bool)), 2: row(8)}, "Annotation 12: .* empty"),
        ({0: row(12, score=float("nan")), 2: row(8)}, "Annotation 12: score is nan"),
        ({0: row(12, box_iou=float("inf")), 2: row(8)}, "12: box_iou is inf"),
    ],
)
def test_refuses_outcomes_that_do_not_fit_the_source(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path, rows=rows)
    assert not list(tmp_path.iterdir())


def test_refuses_two_outcomes_of_one_annotation(tmp_path):
    twice = [(0, row(12)), (0, row(12)), (2, row(8)), (3, SKIPPED[3])]
    with pytest.raises(ValueError, match="annotation 12 has the place 0, but"):
        pseudo_masks.write_coco(tmp_path, CocoFile("source", source()), twice, {})
    assert not list(tmp_path.iterdir())


def test_refuses_outcomes_in_another_order(tmp_path):
    outcomes = [(2, row(8)), (0, row(12)), (3, SKIPPED[3])]
    with pytest.raises(ValueError, match="annotation 12 has the place 0, .* order"):
        pseudo_masks.write_coco(tmp_path, CocoFile("source", source()), outcomes, {})
    assert not list(tmp_path.iterdir())


def test_refuses_a_file_whose_records_changed_places(tmp_path):
    dataset = source()
    dataset["annotations"].reverse()
    with pytest.raises(ValueError, match="changed after it was prepared"):
        write(tmp_path, dataset=dataset)
    assert not list(tmp_path.iterdir())


def test_outcomes_that_break_off_leave_nothing(tmp_path):
    def outcomes():
        yield 0, row(12)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        pseudo_masks.write_coco(tmp_path, CocoFile("source", source()), outcomes(), {})
    assert not list(tmp_path.iterdir())


def test_a_file_on_disk_gives_the_same_bytes_as_its_records(tmp_path):
    (tmp_path / "source.json").write_text(json.dumps(source()))
    outcomes = [(0, row(12)), (2, row(8)), (3, SKIPPED[3])]
    for name, file in (
        ("read", CocoFile.read(tmp_path / "source.json")),
        ("made", CocoFile("source", source())),
    ):
        pseudo_masks.write_coco(tmp_path / name, file, iter(outcomes), {"version": "1"})
    for name in ("pseudo_masks.json", "skipped.json", "manifest.json"):
        made = (tmp_path / "made" / name).read_bytes()
        assert (tmp_path / "read" / name).read_bytes() == made


class Counted(Records):
    """Records that know how many of them were asked for."""

    asked = 0

    def __iter__(self):
        for entry in super().__iter__():
            self.asked += 1
            yield entry


def test_records_go_through_one_at_a_time(tmp_path):
    dataset = source()
    common = {"image_id": 1, "category_id": 7, "bbox": [5, 4, 6, 6]}
    dataset["annotations"] = [{"id": number, **common} for number in range(50)]
    file = CocoFile("source", dataset)
    file.annotations = counted = Counted(dataset["annotations"])
    ahead = []

    def outcomes():
        for number in range(50):
            ahead.append(counted.asked - number)
            yield number, row(number)

    pseudo_masks.write_coco(tmp_path, file, outcomes(), {})
    assert counted.asked == 50 and len(ahead) == 50
    assert set(ahead) <= {0, 1}


def test_texts_of_the_records_are_never_held_as_a_whole(tmp_path):
    size = 50_000
    common = {"image_id": 1, "note": "x" * size}
    records = [{"id": number, **common} for number in range(200)]
    file = CocoFile("source", {**source(), "annotations": records})
    outcomes = ((number, row(number)) for number in range(200))
    tracemalloc.start()
    try:
        pseudo_masks.write_coco(tmp_path, file, outcomes, {})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "pseudo_masks.json").stat().st_size > 200 * size
    assert peak < 40 * size


def test_a_manifest_of_an_earlier_run_does_not_outlive_a_refusal(tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match="the first: 8"):
        write(tmp_path, rows={0: row(12)})
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"pseudo_masks.json", "skipped.json"}
