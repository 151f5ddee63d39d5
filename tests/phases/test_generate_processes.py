"""Labelling by several processes that are killed and started again."""

import json
import shutil
from pathlib import Path

import pytest

from exits_jax import exit_status, main
from tests.support import many_objects, processes, toy
from tests.support.waiting import wait_until

NUM_OBJECTS, NUM_PARTS = 2000, 20
pytestmark = pytest.mark.slow


class Labeled:
    """Workdirs of one training: labeled at once, and in two processes and two goes."""

    def __init__(self, folder: Path):
        self.folder = folder
        data = folder / "data"
        self.train = many_objects.write_dataset(data, num_objects=NUM_OBJECTS)
        self.val = many_objects.write_dataset(folder / "one", num_objects=1)
        config = self.config("trained")
        many_objects.train(config)
        self.copy("trained", "whole")
        assert main.run(self.config("whole"), "generate") == exit_status.OK

    def config(self, name: str):
        """Labels 2,000 objects of the training split and a single one of the other."""
        config = many_objects.config_for(self.folder / "data", self.folder / name)
        config.data.val = str(self.val)
        config.data.val_images = str(self.val.parent / "images")
        config.batch_size = 8  # the devices of 1 and 2 processes divide it
        config.generate.batch_size = 20
        config.generate.part_size = NUM_OBJECTS // NUM_PARTS
        return config

    def copy(self, name: str, other: str) -> Path:
        return Path(shutil.copytree(self.folder / name, self.folder / other))

    def start(self, name: str, num_processes: int):
        flags = [*toy.as_flags(self.config(name)), "--phase=generate"]
        return processes.start_processes(flags, num_processes=num_processes, devices=4)

    def kill_at(self, name: str, num_parts: int) -> None:
        """SIGKILL to both processes as soon as so many parts are there."""
        started = self.start(name, 2)
        parts = self.folder / name / "parts"
        wait_until(lambda: len(list(parts.glob("train-*.jsonl"))) >= num_parts, started)
        for process in started:
            process.kill()
        processes.finish_all(started)


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    # The commit is written into the masks, and may change while the tests run.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_DIR", "/nonexistent")
        found = Labeled(tmp_path_factory.mktemp("processes"))
        found.copy("trained", "killed")
        found.kill_at("killed", NUM_PARTS * 6 // 10)
        yield found


def masks(workdir: Path) -> list[bytes]:
    names = ("pseudo_masks.json", "skipped.json", "manifest.json")
    folders = (workdir, workdir / "val")
    return [(folder / name).read_bytes() for folder in folders for name in names]


def parts(workdir: Path) -> dict[str, bytes]:
    """Whole parts by name; a draft of a process that was killed may go at any time."""
    made = (workdir / "parts").glob("train-*.jsonl")
    return {path.name: path.read_bytes() for path in made}


def test_killed_processes_leave_whole_parts_and_no_masks(labeled):
    killed = labeled.folder / "killed"
    made = list((killed / "parts").glob("train-*.jsonl"))
    assert NUM_PARTS * 6 // 10 <= len(made) < NUM_PARTS
    assert not (killed / "pseudo_masks.json").exists()
    for part in made:
        header, *lines = map(json.loads, part.read_text().splitlines())
        start, stop = header["made_by"]["objects"]
        assert len(lines) == stop - start == NUM_OBJECTS // NUM_PARTS


def test_killed_at_60_percent_and_restarted_equals_one_process_byte_for_byte(labeled):
    workdir = labeled.copy("killed", "restarted")
    num_made = len(list((workdir / "parts").glob("train-*.jsonl")))
    ends = processes.finish_all(labeled.start("restarted", 2))
    assert [status for status, _ in ends] == [exit_status.OK] * 2, ends
    words = f"generate train: {num_made} of {NUM_PARTS} parts were made before"
    assert words in (workdir / "log.txt").read_text()
    assert masks(workdir) == masks(labeled.folder / "whole")
    assert not (workdir / "parts").exists()
    assert toy.leftovers(workdir) == []


def test_one_process_goes_on_with_the_parts_of_two(labeled):
    workdir = labeled.copy("killed", "alone")
    assert main.run(labeled.config("alone"), "generate") == exit_status.OK
    assert "parts were made before" in (workdir / "log.txt").read_text()
    assert masks(workdir) == masks(labeled.folder / "whole")


def test_every_object_is_accounted_for_even_a_single_one(labeled):
    whole = labeled.folder / "whole"
    assert many_objects.accounted_for(whole, labeled.train)
    assert many_objects.accounted_for(whole / "val", labeled.val)


def test_parts_of_another_threshold_end_all_processes_with_a_message(labeled):
    workdir = labeled.copy("killed", "foreign")
    before = parts(workdir)
    flags = [*toy.as_flags(labeled.config("foreign")), "--phase=generate"]
    started = processes.start_processes(
        [*flags, "--config.generate.threshold=0.4"],
        num_processes=2,
        devices=4,
    )
    ends = processes.finish_all(started)
    assert [status for status, _ in ends] == [exit_status.USAGE] * 2, ends
    assert all("generate.threshold: was 0.5, is 0.4" in said for _, said in ends)
    assert parts(workdir) == before
