import errno

import pytest

from exits_jax.data.images import ImageError, check_image
from exits_jax.files.retries import retrying


class Reader:
    """Raises the errors it is given, one per call, then returns its number."""

    def __init__(self, *errors):
        self.errors, self.calls = list(errors), 0

    def __call__(self):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.calls


def fault(number=errno.EIO):
    return OSError(number, "storage")


@pytest.mark.parametrize(
    "number",
    [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.ECONNRESET],
)
def test_a_fault_of_the_storage_is_read_over(number):
    assert retrying(Reader(fault(number)), sleep=lambda _: None) == 2


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "gone"),
        FileNotFoundError("no number"),
        PermissionError(errno.EACCES, "refused"),
        ImageError("broken"),
    ],
)
def test_what_does_not_pass_is_raised_at_once(error):
    reader, waits = Reader(error), []
    with pytest.raises(type(error)) as found:
        retrying(reader, sleep=waits.append)
    assert found.value is error and reader.calls == 1 and not waits


def test_the_last_fault_is_raised_after_the_given_number_of_retries():
    faults = [fault() for _ in range(9)]
    reader = Reader(*faults)
    with pytest.raises(OSError) as found:
        retrying(reader, retries=2, sleep=lambda _: None)
    assert found.value is faults[2] and reader.calls == 3


def test_without_retries_there_is_one_attempt():
    reader = Reader(fault())
    with pytest.raises(OSError):
        retrying(reader, retries=0, sleep=lambda _: None)
    assert reader.calls == 1


def test_waits_double_and_differ_by_chance():
    waits = []
    for _ in range(20):
        retrying(Reader(*[fault() for _ in range(3)]), retries=3, sleep=waits.append)
    for nominal, found in zip((0.1, 0.2, 0.4), (waits[i::3] for i in range(3))):
        assert all(nominal <= wait <= 1.25 * nominal for wait in found)
        assert len(set(found)) > 1


def test_the_check_before_training_reads_over_a_fault(tmp_path, monkeypatch):
    (tmp_path / "a.ppm").write_bytes(b"P6 3 2 255 " + bytes(18))
    reader, opened = Reader(fault(errno.ESTALE)), type(tmp_path).open

    def open_(path, *arguments):
        reader()
        return opened(path, *arguments)

    monkeypatch.setattr(type(tmp_path), "open", open_)
    assert check_image(tmp_path / "a.ppm", full=False) == (2, 3)
    assert reader.calls == 2
