"""What the storage refuses is a sentence and a status; names cannot forge lines."""

import errno
import logging

import pytest

from exits_jax import exit_status, main
from exits_jax.files.atomic import write_bytes
from exits_jax.files.words import fail
from exits_jax.run.reported import status_of, stop_logging
from exits_jax.run.workdir import Workdir


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.ELOOP])
def test_a_fault_of_the_storage_ends_with_bad_input_and_its_file(capsys, code):
    def act():
        raise OSError(code, "it failed", "/x/masks.json")

    assert status_of(act) == exit_status.BAD_INPUT
    assert "error: /x/masks.json: it failed." in capsys.readouterr().err


def test_control_characters_of_names_are_escaped(capsys):
    fail("a\x1b[2K\rerror: b", exit_status.USAGE)
    assert capsys.readouterr().err == "error: a\\x1b[2K\\rerror: b\n"


def test_control_characters_of_names_reach_neither_terminal_nor_log(tmp_path, capsys):
    main.log_to(Workdir(tmp_path))
    logging.getLogger("exits_jax").warning("%s was read", "a\x1b[1A\u202e\rb\udcff")
    stop_logging()
    shown = r"a\x1b[1A\u202e\rb\udcff was read"
    assert capsys.readouterr().err == f"{shown}\n"
    assert (tmp_path / "log.txt").read_text().endswith(f" WARNING {shown}\n")


def test_a_log_on_a_full_disk_is_told_once_and_ends_nothing(tmp_path, capsys):
    (tmp_path / "log.txt").symlink_to("/dev/full")
    main.log_to(Workdir(tmp_path))
    for number in range(3):
        logging.getLogger("exits_jax").info("line %d", number)
    stop_logging()
    *lines, last = capsys.readouterr().err.splitlines()
    assert [line for line in (*lines, last) if line.startswith("line")] == [
        "line 0",
        "line 1",
        "line 2",
    ]
    told = [line for line in (*lines, last) if "cannot be written" in line]
    assert len(told) == 1 and "(No space left on device). The run goes on." in told[0]


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="no regular file"):
        write_bytes(tmp_path / "x", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
