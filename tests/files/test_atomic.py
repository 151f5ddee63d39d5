import pytest

from exits_jax.files.atomic import whole_file, whole_path, write_bytes


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with whole_file(path) as file:
        file.write("ä")
        assert not path.exists()
    assert path.read_bytes() == "ä".encode()


@pytest.mark.parametrize("before", [None, b"older"])
def test_a_block_that_fails_leaves_what_was_there(tmp_path, before):
    path = tmp_path / "a.bin"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(KeyboardInterrupt), whole_path(path) as draft:
        draft.write_bytes(b"half")
        raise KeyboardInterrupt
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [before] * (
        before is not None
    )


def test_bytes_are_on_the_disk_before_they_take_their_name(tmp_path, monkeypatch):
    happened = []
    monkeypatch.setattr("os.fsync", lambda _: happened.append("flushed"))
    monkeypatch.setattr("os.replace", lambda *_: happened.append("named"))
    write_bytes(tmp_path / "a.bin", b"all")
    assert happened == ["flushed", "named", "flushed"]  # the last is the folder
