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
