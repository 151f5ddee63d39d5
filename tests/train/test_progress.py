"""What is said of something long: time is a number here, and nothing waits."""

import io
import logging

import jax
import pytest

from exits_jax.train import progress
from exits_jax.train.progress import Progress, is_for_stderr, tracked


class _Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def _terminal(monkeypatch):
    """A terminal as stderr from here on; pytest sets stderr anew after the fixtures."""
    screen = _Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    return screen


@pytest.fixture
def clock():
    return _Clock()


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, logger="exits_jax")
    return lambda: [record.message for record in caplog.records]


def _steps(clock, **options):
    return Progress("warmup", total=200, unit="step", clock=clock, **options)


def _advance(shown, clock, *seconds):
    for passed in seconds:
        clock.now += passed
        shown.advance()


def test_lines_come_at_intervals_and_whole(clock, said, capfd):
    with _steps(clock) as shown:
        _advance(shown, clock, *[0.5] * 120)
    assert said() == [
        "warmup: step 40 of 200, 2.0 steps/s, about 1:20 left",
        "warmup: step 80 of 200, 2.0 steps/s, about 1:00 left",
        "warmup: step 120 of 200, 2.0 steps/s, about 0:40 left",
    ]
    assert capfd.readouterr().err == ""


def test_the_time_left_counts_no_compilation(clock, said):
    with _steps(clock, warm_up=1) as shown:
        shown.doing("compiling")
        _advance(shown, clock, 900.0, *[1.0] * 20)
    assert said() == [
        "warmup: compiling",
        "warmup: step 1 of 200",
        "warmup: step 21 of 200, 1.0 steps/s, about 2:59 left",
    ]


def test_a_resumed_run_counts_its_own_steps_alone(clock, said):
    with _steps(clock, warm_up=1, initial=100) as shown:
        _advance(shown, clock, 10.0, *[2.0] * 5)
    assert said() == ["warmup: step 106 of 200, 2.0 s per step, about 3:08 left"]


def test_a_line_has_the_last_loss_and_the_end_says_how_long_it_took(clock, said):
    with Progress("warmup", total=2, unit="step", clock=clock) as shown:
        _advance(shown, clock, 30.0)
        shown.note("loss 0.1234")
        _advance(shown, clock, 33.0)
    assert said()[1:] == [
        "warmup: step 2 of 2, loss 0.1234, 31.5 s per step",
        "warmup: 2 steps in 1:03, loss 0.1234",
    ]


def test_what_is_short_says_nothing(said, capfd):
    assert list(tracked("abc", "checking", total=3, unit="image")) == ["a", "b", "c"]
    assert said() == [] and capfd.readouterr().err == ""


def test_what_ends_early_does_not_say_that_it_is_done(clock, said):
    with pytest.raises(KeyError), _steps(clock) as shown:
        _advance(shown, clock, 30.0)
        raise KeyError
    assert len(said()) == 1 and "step 1 of 200" in said()[0]


def test_only_the_first_process_speaks(clock, said, monkeypatch):
    terminal = _terminal(monkeypatch)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with _steps(clock) as shown:
        shown.doing("compiling")
        _advance(shown, clock, *[30.0] * 200)
    assert said() == [] and terminal.getvalue() == ""


def test_a_terminal_shows_a_bar_that_compiles_and_then_has_no_time_left(
    clock, monkeypatch
):
    terminal = _terminal(monkeypatch)
    with _steps(clock, warm_up=1) as shown:
        shown.doing("compiling")
        first = terminal.getvalue()
        _advance(shown, clock, 900.0)
        after = terminal.getvalue().removeprefix(first)
    assert "0/200 steps, compiling" in first
    assert "1/200 steps" in after
    assert "compiling" not in after and "left" not in after


def test_what_is_short_has_no_bar_on_a_terminal(monkeypatch):
    terminal = _terminal(monkeypatch)
    assert list(tracked("abc", "checking", total=3, unit="image")) == ["a", "b", "c"]
    assert terminal.getvalue() == ""


def test_a_short_bar_that_was_shown_ends_its_line(monkeypatch):
    terminal = _terminal(monkeypatch)
    list(tracked("abc", "checking", total=3, unit="image", doing="compiling"))
    assert "3/3 images" in terminal.getvalue() and terminal.getvalue().endswith("\n")


def test_a_message_goes_above_the_bar(clock, monkeypatch):
    terminal = _terminal(monkeypatch)
    logger = logging.getLogger("exits_jax")
    handler = logging.StreamHandler(terminal)
    handler.addFilter(is_for_stderr)
    before, logger.handlers = logger.handlers, [handler]
    try:
        with _steps(clock) as shown:
            _advance(shown, clock, *[30.0] * 3)
            logger.warning("step 7 was skipped")
    finally:
        logger.handlers = before
    pieces = terminal.getvalue().replace("\r", "\n").split("\n")
    assert "step 7 was skipped" in pieces
    assert any("3/200 steps" in piece for piece in pieces)
    assert not any("step 1 of 200" in piece for piece in pieces)


def test_lines_are_for_files_and_pipes(monkeypatch):
    _terminal(monkeypatch)
    record = logging.LogRecord("exits_jax", logging.INFO, "", 0, "x", None, None)
    assert is_for_stderr(record)
    record.is_progress = True
    assert not is_for_stderr(record)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert is_for_stderr(record)


@pytest.mark.parametrize(
    ("seconds", "text"), [(25.9, "0:25"), (625.0, "10:25"), (3625.0, "1:00:25")]
)
def test_times_read_as_on_a_clock(seconds, text):
    assert progress._minutes(seconds) == text
