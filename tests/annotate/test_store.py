"""What is answered is on the disk, whatever happens next."""

import json
import os
import resource
import signal
import stat
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exits_jax.annotate.events import EventError
from exits_jax.annotate.journal import Journal, read_journal
from exits_jax.annotate.store import Store
from exits_jax.data.annotations import read_instances
from exits_jax.data.records import AnnotationError
from exits_jax.files.locks import InUse
from tests.support.annotating import CLIENT, FOUR, clicked, events_of
from tests.support.toy import ROOT


def state_of(store):
    return msgspec.to_builtins(list(store.things.values()))


def test_four_clicks_are_an_annotation_that_the_reader_takes(open_store, task):
    store = open_store()
    store.add(events_of(*clicked(category=2, seconds=6.5)))
    store.snapshot()
    read = read_instances(task.out, task.folder, on_bad="error")
    (item,) = read.instances
    assert item.extreme_points.tolist() == [list(point) for point in FOUR]
    assert item.box == (3, 2, 31, 26) and item.category_id == 2
    assert item.image_path.endswith("a.png")


def test_a_click_within_a_pixel_of_the_image_is_taken_and_clamped(open_store, task):
    store = open_store()
    beyond = [*FOUR[:3], (40.0, 14.0)]
    store.add(events_of(("click", "o1", {"clicks": beyond, "status": "done"})))
    store.snapshot()
    (record,) = json.loads(task.out.read_text())["annotations"]
    assert record["extreme_points"][3] == [39, 14]


@pytest.mark.parametrize("has_snapshot", [True, False])
def test_an_added_class_keeps_its_id_beside_those_of_the_next_start(
    open_store, task, has_snapshot
):
    store = open_store()
    made = store.add_class("bus")
    assert made == {"id": 3, "name": "bus"} == store.add_class("bus")
    store.add(events_of(*clicked(category=3)))
    if has_snapshot:
        store.close()
    else:
        store._lock_file.close()
        task.out.unlink()
    again = open_store(task._replace(classes=("car", "person", "tram")))
    assert [(each["id"], each["name"]) for each in again.categories][2:] == [
        (3, "bus"),
        (4, "tram"),
    ]
    assert again.things["o1"].category == 3


def test_classes_of_later_starts_keep_their_ids_when_the_snapshot_is_lost(
    open_store, task
):
    open_store(task._replace(classes=("car",))).close()
    open_store(task).close()  # adds "person"
    store = open_store(task)
    store.add_class("dog")
    store.add(events_of(*clicked(category=3)))
    before = store.categories
    store.close()
    task.out.unlink()
    assert open_store(task).categories == before


def test_class_lines_without_ids_are_read_and_told_again(open_store, task):
    first = open_store(task._replace(classes=("car",)))
    first.journal.append([{"class": "dog"}])
    first._lock_file.close()
    again = open_store(task)
    assert [each["name"] for each in again.categories] == ["car", "dog", "person"]
    _, lines, _ = read_journal(again.journal.path)
    assert lines[1:] == [
        {"class": {"id": 2, "name": "dog"}},
        {"class": {"id": 3, "name": "person"}},
    ]


def test_clicks_in_any_order_are_written_in_ours(open_store, task):
    store = open_store()
    mixed = [FOUR[2], FOUR[0], FOUR[3], FOUR[1]]
    store.add(events_of(("click", "o1", {"clicks": mixed, "status": "done"})))
    store.snapshot()
    (record,) = json.loads(task.out.read_text())["annotations"]
    assert record["extreme_points"] == [list(point) for point in FOUR]


def test_a_start_without_a_snapshot_knows_every_event(open_store, task):
    store = open_store()
    store.add(events_of(*clicked("o1"), *clicked("o2")[:3]))
    before = state_of(store)
    store._lock_file.close()
    assert state_of(open_store()) == before


def test_a_start_from_a_snapshot_knows_the_same(open_store):
    store = open_store()
    store.add(events_of(*clicked("o1"), *clicked("o2")[:3], ("delete", "o1", GONE)))
    ids = {each.key: (each.id, each.status, each.clicks) for each in thing_list(store)}
    store.close()
    again = open_store()
    assert {e.key: (e.id, e.status, e.clicks) for e in thing_list(again)} == ids


GONE = {"status": "gone"}


def thing_list(store):
    return list(store.things.values())


def test_a_journal_whose_snapshot_was_lost_finds_its_images_again(open_store, task):
    store = open_store()
    store.add(events_of(*clicked(category=2), image=3))
    before = state_of(store)
    store._lock_file.close()
    task.out.unlink()
    (task.folder / "a.png").unlink()  # the numbers of a fresh listing would be others
    again = open_store()
    assert state_of(again) == before
    assert again.pictures[again.place_of[3]].name == "street/c.png"


@pytest.mark.parametrize("ending", ["jfif", "pnm", "JP2"])
def test_images_of_every_ending_that_is_read_are_listed(open_store, task, ending):
    other = task.folder / f"d.{ending}"
    other.write_bytes((task.folder / "a.png").read_bytes())
    assert other.name in {each.name for each in open_store().pictures if not each.fault}


def test_an_image_keeps_its_id_when_others_are_added(open_store, task):
    store = open_store()
    store.add(events_of(*clicked(), image=2))
    store.close()
    (task.folder / "aa.png").write_bytes((task.folder / "a.png").read_bytes())
    again = open_store()
    names = {each.id: each.name for each in again.pictures}
    assert names == {1: "a.png", 2: "b.png", 3: "street/c.png", 4: "aa.png"}


def written(task):
    made = json.loads(task.out.read_text())
    known = {each["id"]: each["file_name"] for each in made["images"]}
    return known, [known[each["image_id"]] for each in made["annotations"]]


def start_without(open_store, task, name):
    """Starts and stops without a file, then puts it back; returns what it wrote."""
    path = task.folder / name
    data = path.read_bytes()
    path.unlink()
    store = open_store()
    store.close()
    path.write_bytes(data)
    return store.remarks, written(task)


def test_an_image_that_is_missing_at_one_start_keeps_its_id_and_objects(
    open_store, task
):
    store = open_store()
    store.add(events_of(*clicked(), image=3))
    store.close()
    remarks, (known, annotated) = start_without(open_store, task, "street/c.png")
    assert known == {1: "a.png", 2: "b.png"} and annotated == []
    assert "cannot be read: 1, with 1 objects" in remarks[0]
    (task.folder / "bb.png").write_bytes((task.folder / "a.png").read_bytes())
    again = open_store()
    known, annotated = written(task)
    assert known == {1: "a.png", 2: "b.png", 3: "street/c.png", 4: "bb.png"}
    assert annotated == ["street/c.png"] and not again.remarks


def test_the_id_of_an_image_that_is_missing_goes_to_no_other(open_store, task):
    open_store().close()
    (task.folder / "street/c.png").unlink()
    open_store().close()
    (task.folder / "bb.png").write_bytes((task.folder / "a.png").read_bytes())
    open_store()
    assert written(task)[0] == {1: "a.png", 2: "b.png", 4: "bb.png"}


def test_an_image_that_cannot_be_read_at_one_start_keeps_its_objects(open_store, task):
    store = open_store()
    store.add(events_of(*clicked(), image=2))
    store.close()
    path = task.folder / "b.png"
    data = path.read_bytes()
    path.write_bytes(data[:20])
    open_store().close()
    assert written(task) == ({1: "a.png", 3: "street/c.png"}, [])
    path.write_bytes(data)
    open_store()
    assert written(task)[1] == ["b.png"]


def test_a_file_without_names_takes_them_from_its_journal(open_store, task):
    store = open_store()
    store.add(events_of(*clicked(), image=3))
    store.close()
    start_without(open_store, task, "street/c.png")
    made = json.loads(task.out.read_text())
    del made["info"]["exits_jax"]["annotate"]["files"]  # as written earlier
    task.out.write_text(json.dumps(made))
    (task.folder / "bb.png").write_bytes((task.folder / "a.png").read_bytes())
    open_store()
    known, annotated = written(task)
    assert known[3] == "street/c.png" and annotated == ["street/c.png"]


def test_an_event_that_is_sent_again_changes_nothing(open_store):
    store = open_store()
    events = events_of(*clicked())
    upto = store.add(events)
    assert store.add(events) == upto == 4


def test_a_repeated_event_is_known_after_a_restart(open_store):
    store = open_store()
    events = events_of(*clicked())
    store.add(events)
    store.close()
    assert open_store().add(events) == 4


def test_a_second_process_is_refused(open_store, task):
    open_store()
    with pytest.raises(InUse):
        Store(task)


def test_the_journal_is_for_its_owner_alone(open_store):
    mode = open_store().journal.path.stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_an_unfinished_last_line_is_cut_off_and_reported(open_store):
    store = open_store()
    store.add(events_of(*clicked()))
    store._lock_file.close()
    with store.journal.path.open("ab") as file:
        file.write(b'{"file": "a.png", "ev')
    again = open_store()
    assert again.upto == 4 and "never finished" in again.remarks[0]
    assert read_journal(store.journal.path)[2] == store.journal.path.stat().st_size


def test_a_broken_line_in_the_middle_is_named(open_store):
    store = open_store()
    store.add(events_of(*clicked()))
    store._lock_file.close()
    lines = store.journal.path.read_bytes().splitlines(keepends=True)
    lines[2] = b"\0\0\0\n"
    store.journal.path.write_bytes(b"".join(lines))
    with pytest.raises(AnnotationError, match="line 3 is broken"):
        open_store()


@given(share=st.floats(0, 1))
def test_a_journal_cut_anywhere_is_a_prefix_of_it(tmp_path_factory, share):
    path = tmp_path_factory.mktemp("journal") / "j"
    journal = Journal.create(path, {})
    journal.append([{"n": n} for n in range(5)])
    journal.close()
    data = path.read_bytes()
    first = data.index(b"\n") + 1
    path.write_bytes(data[: first + round(share * (len(data) - first))])
    _, lines, _ = Journal.reopen(path)
    assert lines == [{"n": n} for n in range(len(lines))]


def test_a_foreign_file_at_out_is_not_overwritten(open_store, task):
    task.out.write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(AnnotationError, match="--review="):
        open_store()


def test_an_older_journal_beside_a_newer_file_is_refused(open_store):
    store = open_store()
    store.add(events_of(*clicked()))
    store.close()
    lines = store.journal.path.read_bytes().splitlines(keepends=True)
    store.journal.path.write_bytes(b"".join(lines[:3]))
    with pytest.raises(AnnotationError, match="older copy"):
        open_store()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clicks": [(40.5, 3)]}, "outside its 40x30 image"),
        ({"category": 9}, "no class"),
        ({"rle": {"size": (30, 40), "counts": "1"}}, "counts sum"),
        ({"rle": {"size": (3, 4), "counts": "<"}}, "size"),
    ],
)
def test_an_impossible_event_is_refused_with_its_reason(open_store, change, said):
    store = open_store()
    with pytest.raises(EventError, match=said):
        store.add(events_of(*clicked(), ("click", "o2", change)))
    assert store.upto == 0 and not store.things


def test_unfinished_and_degenerate_objects_stay_out_of_the_annotations(
    open_store, task
):
    store = open_store()
    flat = [(5, 5), (5, 9), (5, 20), (5, 7)]
    store.add(events_of(("click", "o1", {"clicks": flat, "status": "done"})))
    store.add(events_of(*clicked("o2")[:2], first=2))
    store.close()
    assert json.loads(task.out.read_text())["annotations"] == []
    assert set(open_store().things) == {"o1", "o2"}


WRITER = """
import sys
from pathlib import Path
from exits_jax.annotate.store import Store, Task
from tests.support.annotating import clicked, events_of
store = Store(Task(Path(sys.argv[1]), Path(sys.argv[2])))
print("ready", flush=True)
n = 1
while True:
    key = f"o{n}"
    n += len(clicked())
    print(store.add(events_of(*clicked(key), first=n - 4)), flush=True)
    if n % 40 == 1:
        store.snapshot()
"""


def started(task, **more):
    command = [sys.executable, "-c", WRITER, str(task.folder), str(task.out)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=ROOT, text=True, **more
    )


def check_all_is_there(open_store, task, answered):
    json.loads(task.out.read_text())
    store = open_store()
    assert store.upto >= answered
    done = [each for each in thing_list(store) if each.status == "done"]
    assert len(done) >= answered // 4
    assert len({each.id for each in thing_list(store)}) == len(store.things)


@pytest.mark.parametrize("lines", [1, 7, 31])
def test_kill_9_loses_nothing_that_was_answered(open_store, task, lines):
    with started(task) as process:
        assert process.stdout.readline() == "ready\n"
        answered = [process.stdout.readline() for _ in range(lines)][-1]
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().splitlines(keepends=True)
    rest = [line for line in rest if line.endswith("\n")]
    check_all_is_there(open_store, task, int((rest or [answered])[-1]))


def test_a_full_disk_loses_nothing_that_was_answered(open_store, task):
    limit = 20_000  # bytes a file may have; what is beyond fails as on a full disk

    # Python would leave compiled modules that are cut off there.
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    with started(task, stderr=subprocess.PIPE, env=env) as process:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        out, err = process.communicate(timeout=120)
    answered = [int(line) for line in out.splitlines()[1:]]
    assert len(answered) > 5 and "File too large" in err
    check_all_is_there(open_store, task, answered[-1])


def test_after_a_full_disk_the_same_event_is_taken(open_store, monkeypatch):
    store = open_store()
    events = events_of(*clicked())
    write = os.write

    def full(descriptor, data):
        write(descriptor, data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        store.add(events)
    assert not store.things
    monkeypatch.undo()
    assert store.add(events) == 4
    assert len(read_journal(store.journal.path)[1]) == 4
    assert CLIENT in store._last
