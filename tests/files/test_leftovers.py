import os
import re
import subprocess
import sys

import pytest

from exits_jax.files.atomic import whole_path
from exits_jax.files.leftovers import WHOLE_PATH, remove_leftovers


@pytest.fixture(scope="module")
def dead():
    """Number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_process_left_half_written_goes(tmp_path, dead):
    (tmp_path / f".pseudo_masks.json.{dead}.exits-tmp").touch()
    (tmp_path / f".000002.png.{dead}.exits-tmp").touch()
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_another_process_is_writing_stays(tmp_path):
    writing = tmp_path / f".pseudo_masks.json.{os.getppid()}.exits-tmp"
    writing.touch()
    remove_leftovers(tmp_path)
    assert writing.exists()


@pytest.mark.parametrize(
    "name",
    [
        "pseudo_masks.json.{}",
        ".lock",
        ".hidden.{}",
        ".a.json.{}.bak",
        ".json",
        ".notes.txt.{}",
        ".bashrc.bak.{}",
        "a.json.{}.exits-tmp",
    ],
)
def test_names_that_are_not_ours_stay(tmp_path, dead, name):
    path = tmp_path / name.format(dead)
    path.touch()
    remove_leftovers(tmp_path)
    assert path.exists()


def test_a_file_that_is_being_written_has_a_name_of_ours(tmp_path):
    with whole_path(tmp_path / "a.json") as draft:
        assert re.fullmatch(WHOLE_PATH, draft.name)
        draft.touch()


def test_folders_stay_whatever_their_name(tmp_path, dead):
    theirs = tmp_path / f".data.old.{dead}.exits-tmp" / "scans"
    theirs.mkdir(parents=True)
    remove_leftovers(tmp_path)
    assert theirs.is_dir()


def test_a_folder_of_an_export_that_was_killed_goes(tmp_path, dead):
    (tmp_path / f".out.{dead}.new" / "labels").mkdir(parents=True)
    (tmp_path / f".other.{dead}.new").mkdir()
    remove_leftovers(tmp_path, r"\.out\.(\d+)\.new", folders=True)
    assert [path.name for path in tmp_path.iterdir()] == [f".other.{dead}.new"]


def test_a_folder_that_is_not_there_has_no_leftovers(tmp_path):
    remove_leftovers(tmp_path / "none")
