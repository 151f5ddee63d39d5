import os
import subprocess
import sys

import pytest

from exits_jax.files.leftovers import remove_leftovers


@pytest.fixture(scope="module")
def dead():
    """Number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_process_left_half_written_goes(tmp_path, dead):
    (tmp_path / f".pseudo_masks.json.{dead}").touch()
    (tmp_path / f".000002.png.{dead}").touch()
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_another_process_is_writing_stays(tmp_path):
    writing = tmp_path / f".pseudo_masks.json.{os.getppid()}"
    writing.touch()
    remove_leftovers(tmp_path)
    assert writing.exists()


@pytest.mark.parametrize(
    "name", ["pseudo_masks.json.{}", ".lock", ".hidden.{}", ".a.json.{}.bak", ".json"]
)
def test_names_that_are_not_ours_stay(tmp_path, dead, name):
    path = tmp_path / name.format(dead)
    path.touch()
    remove_leftovers(tmp_path)
    assert path.exists()


def test_a_folder_of_an_export_that_was_killed_goes(tmp_path, dead):
    (tmp_path / f".out.{dead}.new" / "labels").mkdir(parents=True)
    (tmp_path / f".other.{dead}.new").mkdir()
    remove_leftovers(tmp_path, r"\.out\.(\d+)\.new")
    assert [path.name for path in tmp_path.iterdir()] == [f".other.{dead}.new"]


def test_a_folder_that_is_not_there_has_no_leftovers(tmp_path):
    remove_leftovers(tmp_path / "none")
