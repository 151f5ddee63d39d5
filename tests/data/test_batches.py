import pickle
import subprocess
import sys
import tempfile
import threading

import jax
import numpy as np
import pytest
from PIL import Image

from exits_jax.data import samples
from exits_jax.data.batches import label_batches, train_batches, trainable
from exits_jax.data.images import ImageError
from exits_jax.data.records import Instance
from exits_jax.data.samples import CropOptions
from exits_jax.data.table import Instances
from exits_jax.ops.photometric import Changes, student_view
from tests.support.waiting import CEILING_S

OPTIONS = CropOptions(crop_size=16, cache_mb=1)


def instance(path, index, box=(4.0, 6.0, 30.0, 28.0), **changes):
    x0, y0, x1, y1 = box
    points = [[x0 + 9, y0], [x0, y0 + 5], [x0 + 3, y1 - 1], [x1 - 1, y0 + 7]]
    made = Instance(
        annotation_id=100 + index,
        image_id=index,
        category_id=1,
        image_path=str(path),
        image_size=(36, 44),
        extreme_points=np.array(points, np.float32),
        box=box,
        is_crowd=False,
        flags=(),
    )
    return made._replace(**changes)


@pytest.fixture(scope="module")
def instances(tmp_path_factory):
    """Seven objects in four images; the last one has no points."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(4):
        pixels = rng.integers(0, 256, (36, 44, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    made = [
        instance(folder / f"{i % 4}.png", i, (4.0 + i, 6.0, 30.0 + i, 28.0))
        for i in range(7)
    ]
    made[-1] = made[-1]._replace(extreme_points=None)
    return made


def train(instances, start_step=0, num_steps=5, options=OPTIONS, **arguments):
    arguments = {"seed": 3, "global_batch": 4, **arguments}
    return list(
        train_batches(
            instances,
            options,
            start_step=start_step,
            num_steps=num_steps,
            **arguments,
        )
    )


def assert_same_batches(actual, expected):
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected):
        assert one.keys() == other.keys()
        for name, value in other.items():
            np.testing.assert_array_equal(one[name], value, err_msg=name)


def joined(parts):
    """The batches of several processes, put together row by row."""
    return [
        {name: np.concatenate([p[name] for p in step]) for name in step[0]}
        for step in zip(*parts, strict=True)
    ]


def test_train_batch_has_the_documented_fields(instances):
    batch = train(instances, num_steps=1)[0]
    assert {name: (v.dtype.name, v.shape) for name, v in batch.items()} == {
        "image": ("uint8", (4, 16, 16, 3)),
        "student_image": ("uint8", (4, 16, 16, 3)),
        "extreme_points": ("float32", (4, 4, 2)),
        "has_points": ("bool", (4,)),
        "box": ("float32", (4, 4)),
        "valid_region": ("float32", (4, 4)),
        "box_area": ("float32", (4,)),
        "window": ("int32", (4, 4)),
        "seed": ("uint32", (4,)),
        "index": ("int32", (4,)),
        "valid": ("bool", (4,)),
    }
    assert batch["valid"].all()
    assert (batch["box_area"] == 26 * 22).all()


def test_label_batch_has_the_same_fields_without_the_student_view(instances):
    label = next(label_batches(instances, OPTIONS, batch=4))
    full = train(instances, num_steps=1)[0]
    del full["student_image"]
    assert {n: (v.dtype, v.shape) for n, v in label.items()} == {
        n: (v.dtype, v.shape) for n, v in full.items()
    }


def test_a_run_resumed_in_mid_epoch_continues_exactly(instances):
    assert_same_batches(train(instances, 3, 4), train(instances, 0, 7)[3:])


@pytest.mark.parametrize("start_step", [0, 3])
@pytest.mark.parametrize("process_count", [2, 4])
def test_processes_share_the_rows_of_the_same_global_batches(
    instances, process_count, start_step
):
    parts = [
        train(instances, start_step, process_index=i, process_count=process_count)
        for i in range(process_count)
    ]
    assert parts[0][0]["index"].shape == (4 // process_count,)
    assert_same_batches(joined(parts), train(instances, start_step))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_samples_than_processes_fill_every_step(instances, count):
    few = instances[:count]
    parts = [
        train(few, 2, 3, process_index=i, process_count=4, num_threads=1)
        for i in range(4)
    ]
    assert [len(part) for part in parts] == [3] * 4
    assert all(batch["valid"].all() for part in parts for batch in part)
    assert_same_batches(joined(parts), train(few, 2, 3))


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_samples_than_processes_are_labelled_once(instances, count):
    parts = [
        list(
            label_batches(
                instances[:count], OPTIONS, batch=4, process_index=i, process_count=4
            )
        )
        for i in range(4)
    ]
    assert [len(part) for part in parts] == [1] * 4
    index = joined(parts)[0]["index"]
    np.testing.assert_array_equal(index, [*range(count), *[-1] * (4 - count)])


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_threads_do_not_change_the_batches(instances, num_threads):
    assert_same_batches(train(instances, num_threads=num_threads), train(instances))


def test_workers_do_not_change_the_batches(instances):
    assert_same_batches(train(instances, 2, 5, num_workers=2), train(instances, 2, 5))


def test_cache_does_not_change_the_batches(instances):
    uncached = train(instances, options=OPTIONS._replace(cache_mb=0))
    assert_same_batches(uncached, train(instances))


def test_every_epoch_visits_each_instance_once_in_its_own_order(instances):
    batches = train(instances, num_steps=7)  # 28 rows: four epochs of seven
    epochs = np.concatenate([b["index"] for b in batches]).reshape(4, 7)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(7), (4, 1)))
    assert len({tuple(epoch) for epoch in epochs.tolist()}) > 1


def test_without_shuffle_the_order_is_that_of_the_list(instances):
    batches = train(instances, shuffle=False)
    order = np.concatenate([b["index"] for b in batches])
    np.testing.assert_array_equal(order, np.arange(20) % 7)


def test_an_instance_is_drawn_anew_in_each_epoch(instances):
    batches = train(instances[:1], num_steps=8, global_batch=1)
    assert len({int(b["seed"][0]) for b in batches}) == 8
    assert len({b["window"].tobytes() for b in batches}) > 1


def test_a_step_larger_than_the_list_spans_epochs(instances):
    batch = train(instances[:1], num_steps=1)[0]
    np.testing.assert_array_equal(batch["index"], 0)
    assert len(set(batch["seed"].tolist())) == 4


def test_another_seed_gives_other_samples(instances):
    first, second = train(instances), train(instances, seed=4)
    assert (first[0]["seed"] != second[0]["seed"]).all()


def test_points_lie_on_the_edges_of_the_box(instances):
    for batch in train(instances):
        has = batch["has_points"]
        x0, y0, x1, y1 = batch["box"][has].T
        top, left, bottom, right = batch["extreme_points"][has].transpose(1, 0, 2)
        half = 16 / 22 / 2 + 1e-4  # half an image pixel is at most this in the crop
        assert np.abs(top[:, 1] - y0).max() < half
        assert np.abs(left[:, 0] - x0).max() < half
        assert np.abs(bottom[:, 1] - y1).max() < half
        assert np.abs(right[:, 0] - x1).max() < half


def test_absent_points_are_zeros(instances):
    batch = train(instances[-1:], num_steps=1)[0]
    assert not batch["has_points"].any() and not batch["extreme_points"].any()


def test_without_photometric_change_the_views_are_equal(instances):
    for batch in train(instances, options=OPTIONS._replace(photometric=None)):
        np.testing.assert_array_equal(batch["student_image"], batch["image"])


def test_the_clean_view_does_not_depend_on_the_photometric_change(instances):
    plain = train(instances, options=OPTIONS._replace(photometric=None))
    for one, other in zip(plain, train(instances)):
        np.testing.assert_array_equal(one["image"], other["image"])
    assert any((b["student_image"] != b["image"]).any() for b in train(instances))


@pytest.mark.parametrize("rate, mirrored", [(0.0, False), (1.0, True)])
def test_flip_rate_decides_on_the_mirror_image(instances, rate, mirrored):
    first = train(instances, num_steps=1, options=OPTIONS._replace(flip_rate=0.0))
    second = train(instances, num_steps=1, options=OPTIONS._replace(flip_rate=rate))
    expected = first[0]["image"][:, :, ::-1] if mirrored else first[0]["image"]
    np.testing.assert_array_equal(second[0]["image"], expected)


def test_labels_visit_each_instance_once_in_order_and_pad(instances):
    batches = list(label_batches(instances, OPTIONS, batch=4))
    index = np.concatenate([b["index"] for b in batches])
    valid = np.concatenate([b["valid"] for b in batches])
    np.testing.assert_array_equal(index, [0, 1, 2, 3, 4, 5, 6, -1])
    np.testing.assert_array_equal(valid, index >= 0)


@pytest.mark.parametrize("process_count", [2, 4])
def test_all_processes_label_the_same_number_of_batches(instances, process_count):
    few = instances[:5]
    parts = [
        list(
            label_batches(
                few, OPTIONS, batch=4, process_index=i, process_count=process_count
            )
        )
        for i in range(process_count)
    ]
    expected = list(label_batches(few, OPTIONS, batch=4))
    assert_same_batches(joined(parts), expected)


def test_workers_do_not_change_the_labels(instances):
    actual = list(label_batches(instances, OPTIONS, batch=2, num_workers=2))
    assert_same_batches(actual, list(label_batches(instances, OPTIONS, batch=2)))


def test_label_crops_have_equal_margins(instances):
    batch = next(label_batches(instances, OPTIONS, batch=1))
    # Box (4, 6, 30, 28): half extents 13 and 11, 0.3 of them on each side.
    np.testing.assert_array_equal(batch["window"], [[0, 2, 35, 33]])


def test_padding_rows_have_a_box_with_area(instances):
    batch = list(label_batches(instances[:1], OPTIONS, batch=2))[0]
    np.testing.assert_array_equal(batch["box"][1], [0, 0, 16, 16])


def test_nothing_to_label_is_no_batch():
    assert list(label_batches([], OPTIONS, batch=4)) == []


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(ValueError, match="no instance to train on"):
        train([])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_broken_image_stops_training_with_its_name(instances, tmp_path, num_workers):
    (tmp_path / "broken.jpg").write_bytes(b"not an image")
    broken = [*instances, instance(tmp_path / "broken.jpg", 9)]
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        train(broken, num_workers=num_workers)


@pytest.fixture
def with_missing(instances, tmp_path):
    """The instances, of which the second has no image any more."""
    return [instances[0], instance(tmp_path / "gone.png", 1), *instances[2:]]


def test_a_missing_image_stops_training_unless_it_is_to_be_skipped(with_missing):
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        train(with_missing)


@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_a_missing_image_becomes_a_masked_row_on_its_process(
    with_missing, process_count
):
    parts = [
        train(
            with_missing,
            skip_unreadable=True,
            process_index=i,
            process_count=process_count,
        )
        for i in range(process_count)
    ]
    batches = joined(parts)
    index = np.concatenate([b["index"] for b in batches])
    valid = np.concatenate([b["valid"] for b in batches])
    assert (index == 1).sum() >= 2
    np.testing.assert_array_equal(valid, index != 1)
    assert_same_batches(batches, train(with_missing, skip_unreadable=True))


def test_a_missing_image_leaves_the_other_rows_as_they_were(instances, with_missing):
    for found, expected in zip(
        train(with_missing, skip_unreadable=True), train(instances), strict=True
    ):
        rows = found["valid"]
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name][rows], value[rows], err_msg=name)


def test_a_masked_row_is_blank_and_has_a_box_with_area(with_missing):
    for batch in train(with_missing, skip_unreadable=True):
        for row in np.flatnonzero(~batch["valid"]):
            np.testing.assert_array_equal(batch["box"][row], [0, 0, 16, 16])
            assert not batch["image"][row].any()
            assert not batch["student_image"][row].any()
            assert not batch["has_points"][row]


def test_a_step_without_any_readable_image_is_still_a_step(tmp_path):
    gone = [instance(tmp_path / "gone.png", 0)]
    batches = train(gone, num_steps=2, skip_unreadable=True, num_workers=1)
    assert [b["valid"].tolist() for b in batches] == [[False] * 4] * 2


on_device = jax.jit(student_view)
ON_DEVICE = OPTIONS._replace(on_device=True)


def test_on_the_device_a_batch_has_the_changes_instead_of_the_view(instances):
    batch = train(instances, num_steps=1, options=ON_DEVICE)[0]
    there = {
        name: (v.dtype.name, v.shape)
        for name, v in batch.items()
        if name not in train(instances, num_steps=1)[0]
    }
    assert "student_image" not in batch
    assert there == {
        "jitter_order": ("int32", (4, 4)),
        "jitter_amounts": ("float32", (4, 4)),
        "is_grey": ("bool", (4,)),
        "blur_kernel": ("float32", (4, 7)),
    }


def test_all_else_is_the_same_on_the_device(instances):
    for one, other in zip(train(instances, options=ON_DEVICE), train(instances)):
        for name in other.keys() - {"student_image"}:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_the_device_makes_the_view_that_the_host_makes(instances):
    for one, other in zip(train(instances, options=ON_DEVICE), train(instances)):
        changes = Changes(*(one[name] for name in Changes._fields))
        view = np.asarray(on_device(one["image"], changes)).astype(int)
        assert np.abs(view - other["student_image"]).max() <= 2


def test_without_photometric_change_the_device_gets_none(instances):
    plain = ON_DEVICE._replace(photometric=None)
    batch = train(instances, num_steps=1, options=plain)[0]
    assert not {"student_image", *Changes._fields} & batch.keys()


def test_masked_rows_for_the_device_change_nothing(with_missing):
    batches = train(with_missing, options=ON_DEVICE, skip_unreadable=True)
    masked = [~b["valid"] for b in batches]
    assert sum(rows.sum() for rows in masked) >= 2
    for batch, rows in zip(batches, masked):
        assert not batch["jitter_amounts"][rows].any()
        assert (batch["blur_kernel"][rows][:, 0] == 256).all()


def test_an_image_of_another_size_is_an_error(instances):
    other = [instances[0]._replace(image_size=(50, 60))]
    with pytest.raises(ImageError, match=r"0\.png.*44x36.*say 60x50"):
        train(other)


def test_unreadable_images_can_be_left_to_the_caller(instances, tmp_path):
    missing = instance(tmp_path / "missing.png", 9)
    mixed = [instances[0], missing, instances[1]]
    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        list(label_batches(mixed, OPTIONS, batch=2))
    batches = list(label_batches(mixed, OPTIONS, batch=2, skip_unreadable=True))
    index = np.concatenate([b["index"] for b in batches])
    valid = np.concatenate([b["valid"] for b in batches])
    np.testing.assert_array_equal(index, [0, 1, 2, -1])
    np.testing.assert_array_equal(valid, [True, False, True, False])


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"global_batch": 3, "process_count": 2}, "positive multiple of the 2"),
        ({"process_index": 2, "process_count": 2}, "process_index must be in"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"start_step": -1}, "start_step and num_steps"),
        ({"prefetch": 0}, "prefetch at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused_at_once(instances, changes, words):
    with pytest.raises(ValueError, match=words):
        train(instances, **changes)


def test_an_iterator_can_be_dropped_in_the_middle(instances):
    before = threading.active_count()
    batches = train_batches(
        instances, OPTIONS, seed=0, global_batch=2, start_step=0, num_steps=10**6
    )
    next(batches)
    batches.close()
    for thread in threading.enumerate():
        if thread.name.startswith("grain-prefetch"):
            thread.join(timeout=CEILING_S)
    assert threading.active_count() <= before


def test_workers_start_and_stop_cleanly_in_a_plain_script(instances, tmp_path):
    script = tmp_path / "run.py"
    (tmp_path / "instances.pkl").write_bytes(pickle.dumps(instances))
    script.write_text(
        "import pickle, pathlib\n"
        "from exits_jax.data.batches import CropOptions, train_batches\n"
        "if __name__ == '__main__':\n"
        "    path = pathlib.Path(__file__).with_name('instances.pkl')\n"
        "    batches = train_batches(pickle.loads(path.read_bytes()),\n"
        "        CropOptions(crop_size=16), seed=0, global_batch=2, start_step=0,\n"
        "        num_steps=10**6, num_workers=1)\n"
        "    print(next(batches)['image'].shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        capture_output=True,
        text=True,
        timeout=CEILING_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == "(2, 16, 16, 3)"


def test_training_filter_keeps_large_objects_that_are_no_crowd():
    sizes = {"kept": (64, 33), "area": (64, 32), "thin": (2000, 2), "crowd": (90, 90)}
    candidates = [
        instance(name, i, (1.0, 1.0, 1.0 + w, 1.0 + h), is_crowd=name == "crowd")
        for i, (name, (w, h)) in enumerate(sizes.items())
    ]
    assert [kept.image_path for kept in trainable(candidates)] == ["kept"]


def test_workers_get_the_name_of_a_folder_not_the_objects(instances, tmp_path):
    many = Instances.of(instances * 1000)
    few = many.select(np.arange(7))
    sent = [
        len(pickle.dumps(samples.SampleReader(columns.save(tmp_path / name), OPTIONS)))
        for name, columns in (("many", many), ("few", few))
    ]
    assert max(sent) < 2000 and abs(sent[0] - sent[1]) < 10
    assert len(pickle.dumps(samples.SampleReader(many, OPTIONS))) > 500_000


def test_the_folder_of_the_workers_is_gone_at_the_end(instances, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    batches = label_batches(instances, OPTIONS, batch=4, num_workers=1)
    assert list(tmp_path.glob("exits_columns_*/boxes.npy"))
    next(batches)
    batches.close()
    assert not list(tmp_path.glob("exits_columns_*"))
