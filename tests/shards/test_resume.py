import json
import shutil
import signal
import subprocess
import sys

import pytest
import tensorflow_datasets as tfds

from exits_jax.data.images import ImageError
from exits_jax.shards import writer
from exits_jax.shards.packing import PackError
from exits_jax.shards.reader import ShardedImages
from exits_jax.shards.storage import ShardError
from tests.shards import drawn
from tests.support import toy
from tests.support.waiting import CEILING_S, wait_until

# Packs a folder and is killed before it writes its shard number `sys.argv[3]`.
KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from exits_jax.shards import writer
from tests.shards import drawn
write, done = writer.write_shard, []

def write_or_die(job):
    if len(done) == int(sys.argv[3]):
        path = Path(job.folder) / "building" / ".half.tmp"
        path.write_bytes(b"half a shard")
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(write(job))
    return done[-1]

writer.write_shard = write_or_die
drawn.pack(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def kill_after(count, source, out):
    """The unfinished version folder of a process that was killed."""
    text = KILLED.format(root=str(toy.ROOT))
    command = [sys.executable, "-c", text, str(source), str(out), str(count)]
    status = subprocess.run(command, timeout=CEILING_S, check=False).returncode
    assert status == -signal.SIGKILL
    return out / "exits_coco" / "1.0.0"


def shards(folder):
    return sorted(folder.glob("*.array_record-*"))


@pytest.fixture(scope="module")
def stopped(source, tmp_path_factory):
    """A data set whose process was killed after two shards; not to be changed."""
    return kill_after(2, source, tmp_path_factory.mktemp("stopped"))


@pytest.fixture
def half(stopped, tmp_path):
    """A copy of it, to be gone on with."""
    return shutil.copytree(stopped, tmp_path / "half" / "exits_coco" / "1.0.0")


@pytest.mark.parametrize("num_workers", [1, 3])
def test_the_bytes_do_not_depend_on_the_number_of_processes(
    num_workers, source, packed, tmp_path
):
    folder = drawn.pack(source, tmp_path, num_workers=num_workers)
    assert drawn.contents(folder) == drawn.contents(packed)


def test_a_killed_run_goes_on_with_the_missing_shards(source, packed, half):
    before = {path: path.stat().st_mtime_ns for path in shards(half)}
    assert len(before) == 2
    result = drawn.builder(source, half.parent.parent).pack(shard_mb=1)
    assert result.reused == 2
    assert result.shards == len(shards(packed)) > 2
    assert drawn.contents(half) == drawn.contents(packed)
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert not (half / "building").exists()


def test_a_run_killed_at_once_goes_on(source, packed, tmp_path):
    folder = kill_after(0, source, tmp_path)
    assert not shards(folder)
    drawn.pack(source, tmp_path)
    assert drawn.contents(folder) == drawn.contents(packed)


def test_an_unfinished_folder_is_none_to_read(half):
    with pytest.raises(ShardError, match="packing has not been finished there"):
        ShardedImages(half)
    with pytest.raises(OSError, match="Could not read dataset info"):
        tfds.builder_from_directory(half)
    builder = tfds.builder("exits_coco", data_dir=half.parent.parent)
    assert not builder.is_prepared()
    with pytest.raises(KeyError, match="has not been generated yet"):
        builder.as_data_source("train")


def test_a_shard_without_its_note_is_written_again(source, packed, half):
    foreign = half / shards(packed)[-1].name
    foreign.write_bytes(b"nobody says that this is finished")
    assert drawn.builder(source, half.parent.parent).pack(shard_mb=1).reused == 2
    assert drawn.contents(half) == drawn.contents(packed)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "gone", "note", "other"])
def test_a_finished_shard_that_changed_is_written_again(damage, source, packed, half):
    shard = shards(half)[0]
    note = half / "building" / f"{shard.name}.json"
    data = bytearray(shard.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
    elif damage == "truncated":
        shard.write_bytes(data[:-1])
    elif damage == "gone":
        shard.unlink()
    elif damage == "note":
        note.write_text("[]")
    else:
        note.write_text(json.dumps({**json.loads(note.read_text()), "source": "else"}))
    assert drawn.builder(source, half.parent.parent).pack(shard_mb=1).reused == 1
    assert drawn.contents(half) == drawn.contents(packed)


@pytest.mark.parametrize("state", ["half", "packed"])
def test_another_source_is_refused_with_both_digests(
    state, request, source, tmp_path, packed
):
    folder = request.getfixturevalue(state)
    before = drawn.contents(folder)
    other = drawn.write_source(tmp_path / "other")
    other["annotations"][0]["extreme_points"][0][0] += 1
    drawn.write_annotations(tmp_path / "other", other)
    with pytest.raises(PackError) as caught:
        drawn.builder(tmp_path / "other", folder.parent.parent).pack(shard_mb=1)
    known = json.loads((packed / "manifest.json").read_text())["source"]
    assert known["digest"] in str(caught.value)
    assert f"train/annotations: {known['parts']['train/annotations']} there" in str(
        caught.value
    )
    assert "train/images" not in str(caught.value)
    lock = "building/lock"  # says who asked last
    assert drawn.contents(folder) | {lock: b""} == before | {lock: b""}


def test_other_image_files_are_another_source(half, tmp_path):
    drawn.write_source(tmp_path / "other")
    with (tmp_path / "other" / "images" / "0001.png").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(PackError, match="train/images: .* there, .* here"):
        drawn.builder(tmp_path / "other", half.parent.parent).pack(shard_mb=1)


def test_an_unreadable_claim_is_named(source, half):
    (half / "building" / "source.json").write_text("{")
    with pytest.raises(ShardError, match=r"building/source\.json is no note"):
        drawn.builder(source, half.parent.parent).pack(shard_mb=1)


def test_a_finished_data_set_is_not_written_again(source, packed):
    before = {path: path.stat().st_mtime_ns for path in packed.rglob("*")}
    result = drawn.builder(source, packed.parent.parent).pack(shard_mb=1)
    assert result.reused == result.shards == len(shards(packed))
    assert result.records == len(drawn.NAMES)
    assert result.bytes == sum(path.stat().st_size for path in shards(packed))
    assert {path: path.stat().st_mtime_ns for path in packed.rglob("*")} == before


def test_a_finished_data_set_with_a_missing_shard_is_reported(source, tmp_path):
    folder = drawn.pack(source, tmp_path)
    shards(folder)[1].unlink()
    with pytest.raises(ShardError, match="00001-of-.* is missing"):
        drawn.builder(source, tmp_path).pack(shard_mb=1)


def test_an_image_that_changes_meanwhile_stops_packing(tmp_path, monkeypatch):
    drawn.write_source(tmp_path)
    write = writer.write_shard

    def change_last_and_write(job):
        (tmp_path / "images" / "0006.png").write_bytes(b"shorter")
        return write(job)

    monkeypatch.setattr(writer, "write_shard", change_last_and_write)
    with pytest.raises(ImageError, match="0006.png has 7 bytes; it had"):
        drawn.pack(tmp_path, tmp_path / "out")
    folder = tmp_path / "out" / "exits_coco" / "1.0.0"
    assert not (folder / "dataset_info.json").exists()
    assert not list(folder.rglob("*.tmp"))


def test_a_fault_in_a_worker_reaches_the_caller(tmp_path, monkeypatch):
    drawn.write_source(tmp_path)
    claim = drawn.builder(tmp_path, tmp_path / "out")
    plan = type(claim)._plan

    def remove_an_image(self, *args):
        (tmp_path / "images" / "0006.png").unlink()
        return plan(self, *args)

    monkeypatch.setattr(type(claim), "_plan", remove_an_image)
    with pytest.raises(FileNotFoundError, match="0006.png"):
        claim.pack(shard_mb=1, num_workers=2)


ORPHANS = """
import multiprocessing, os, signal, sys, time
sys.path.insert(0, {root!r})
from concurrent.futures import ProcessPoolExecutor
from exits_jax.shards.writer import _end_with_parent

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, mp_context=spawn, initializer=_end_with_parent)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 3600)
    os.kill(os.getpid(), signal.SIGKILL)
"""


SIGNALLED = """
import multiprocessing, os, signal, sys
sys.path.insert(0, {root!r})
from concurrent.futures import ProcessPoolExecutor
from exits_jax.shards.writer import _begin_worker

def signalled():
    os.kill(os.getpid(), signal.SIGINT)
    return "went on"

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_begin_worker) as pool:
        print(pool.submit(signalled).result())
"""
FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.shards import drawn
folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    drawn.pack(folder, folder / "out")
except OSError as error:
    print(error)
"""


def test_workers_end_with_the_process_that_started_them(tmp_path):
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS.format(root=str(toy.ROOT)))
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # Python counts what the killed one left open
        text=True,
    ) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        process.wait(timeout=CEILING_S)
    wait_until(lambda: not is_running(worker))


def test_an_interrupt_of_the_whole_group_leaves_workers_to_their_parent(tmp_path):
    """A worker that dies with the queue in its hands lets the others wait for ever."""
    script = tmp_path / "signalled.py"
    script.write_text(SIGNALLED.format(root=str(toy.ROOT)))
    found = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=CEILING_S,
        check=False,
    )
    assert found.stdout == "went on\n", found.stderr


def test_a_full_disk_is_an_error_of_the_storage_that_names_the_shard(tmp_path):
    drawn.write_source(tmp_path)
    command = [sys.executable, "-c", FULL.format(root=str(toy.ROOT)), str(tmp_path)]
    found = subprocess.run(
        command, capture_output=True, text=True, timeout=CEILING_S, check=False
    )
    wanted = "The shard exits_coco-train.array_record-00000-of-0000"
    assert found.stdout.startswith(wanted), found.stderr
    assert "cannot be written: write() failed: File too large" in found.stdout
    assert not list(tmp_path.rglob("*.tmp"))


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
