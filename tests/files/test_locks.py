import errno
import fcntl
import os

import pytest

from exits_jax.files.locks import InUse, take_lock


def test_a_second_holder_is_told_who_the_first_is(tmp_path):
    with take_lock(tmp_path / "lock"):
        with pytest.raises(InUse, match=f"process {os.getpid()} on"):
            take_lock(tmp_path / "lock")


def test_a_lock_ends_with_its_file(tmp_path):
    take_lock(tmp_path / "lock").close()
    take_lock(tmp_path / "lock").close()
    assert (tmp_path / "lock").read_text().count("process") == 1


@pytest.fixture
def no_locks(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_a_file_system_without_locks_is_an_error(tmp_path, no_locks):
    with pytest.raises(OSError, match="No locks available"):
        take_lock(tmp_path / "lock")


def test_who_can_do_without_a_lock_goes_on(tmp_path, no_locks):
    take_lock(tmp_path / "lock", is_needed=False).close()
