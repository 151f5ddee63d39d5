"""A review loses nothing of its source, whatever is the matter with the images."""

import json

import pytest

from exits_jax.annotate.store import Store, Task
from exits_jax.data.records import AnnotationError
from tests.support.annotating import events_of

SQUARE = [[5.0, 5.0, 20.0, 5.0, 20.0, 20.0, 5.0, 20.0]]


@pytest.fixture
def masks(folder, tmp_path):
    """Writes a file of one mask on each of two images, changed by `change`."""

    def writing(change=lambda source: None):
        images = [
            {"id": k, "file_name": name, "width": 40, "height": 30, "license": 3}
            for k, name in enumerate(("a.png", "b.png"), 1)
        ]
        record = {"category_id": 1, "bbox": [5, 5, 15, 15], "segmentation": SQUARE}
        marks = {"score": 0.4, "click_hit": None, "box_iou": 1.0}
        marks |= {"num_parts": 1, "flags": []}
        source = {
            "images": images,
            "annotations": [
                {"id": 10 + k, "image_id": k, **record, "score": 0.4, "exits": marks}
                for k in (1, 2)
            ],
            "categories": [{"id": 1, "name": "car"}],
        }
        change(source)
        path = tmp_path / "masks.json"
        path.write_text(json.dumps(source))
        return Task(folder, tmp_path / "reviewed.json", review=path), source

    return writing


def without_key(record):
    marks = {name: v for name, v in record["exits"].items() if name != "key"}
    return {**record, "exits": marks}


def test_a_record_of_an_image_that_cannot_be_read_is_written_as_it_came(
    open_store, masks, folder
):
    task, source = masks()
    (folder / "b.png").write_bytes(b"no image")
    for _ in range(2):  # the second start reads what the first wrote
        store = open_store(task)
        store.close()
        made = json.loads(task.out.read_text())
        assert made["images"] == source["images"]
        assert without_key(made["annotations"][1]) == source["annotations"][1]
        assert "cannot be read: 1, with 1 objects" in store.remarks[0]


def test_an_image_that_is_back_has_its_mask_and_score(open_store, masks, folder):
    task, _ = masks()
    data = (folder / "b.png").read_bytes()
    (folder / "b.png").unlink()
    open_store(task).close()
    (folder / "b.png").write_bytes(data)
    store = open_store(task)
    one, other = store.things.values()
    assert other.rle is not None and other.rle == one.rle
    assert other.quality == one.quality and other.by == "model"
    first, second = json.loads(task.out.read_text())["annotations"]
    assert second["score"] == 0.4 and second["segmentation"] == first["segmentation"]


def test_a_record_whose_image_is_lost_later_keeps_its_mask(open_store, masks, folder):
    task, _ = masks()
    open_store(task).close()
    before = json.loads(task.out.read_text())
    (folder / "b.png").unlink()
    open_store(task).close()
    after = json.loads(task.out.read_text())
    assert after["annotations"] == before["annotations"]
    assert after["images"] == before["images"]


def test_what_a_journal_says_of_an_unread_record_is_kept(open_store, masks, folder):
    task, _ = masks()
    store = open_store(task)
    store.add(events_of(("reject", "s1", {"status": "rejected"}), image=2))
    store.close()
    task.out.unlink()
    data = (folder / "b.png").read_bytes()
    (folder / "b.png").unlink()
    open_store(task).close()
    (folder / "b.png").write_bytes(data)
    thing = open_store(task).things["s1"]
    assert thing.status == "rejected" and thing.rle is not None


def test_a_source_none_of_whose_images_can_be_read_is_refused(masks, folder):
    task, _ = masks()
    for name in ("a.png", "b.png"):
        (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"None of the 2 images .*{folder}"):
        Store(task)
    assert not task.out.exists()


def spoiled(**fields):
    def change(source):
        source["annotations"][1] |= fields

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (spoiled(id=None), "`id` is None"),
        (spoiled(image_id=[2]), "`image_id` is"),
        (lambda source: source["annotations"][1].pop("category_id"), "`category_id`"),
        (spoiled(extreme_points=[1, 2, 3, 4]), "cannot be used"),
        (spoiled(exits="text"), "cannot be used"),
        (lambda source: source["annotations"].__setitem__(1, 7), "not a JSON object"),
    ],
)
def test_a_faulty_record_is_named_with_file_and_entry(masks, change, said):
    task, _ = masks(change)
    with pytest.raises(AnnotationError, match=f"masks.json: .* entry 1.*{said}") as e:
        Store(task)
    assert e.value.problems[0].code == "E102"


@pytest.mark.parametrize("box", [None, [1, 2, 3], [1, 2, 3, "4"], 5])
def test_a_box_of_no_use_is_replaced_by_that_of_the_mask(open_store, masks, box):
    task, _ = masks(spoiled(bbox=box))
    open_store(task)
    _, record = json.loads(task.out.read_text())["annotations"]
    assert record["bbox"] == [5, 5, 15, 15]


def test_the_score_of_masks_of_others_outlives_any_number_of_starts(open_store, masks):
    def of_others(source):
        for record in source["annotations"]:
            del record["exits"]

    task, _ = masks(of_others)
    for _ in range(3):
        open_store(task).close()
        made = json.loads(task.out.read_text())["annotations"]
        assert [record["score"] for record in made] == [0.4, 0.4]
