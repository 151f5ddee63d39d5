import json
import os
import signal
from functools import partial
from itertools import count, islice

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from exits_jax.train import feed, stopping
from exits_jax.train.checkpoints import Checkpoints, InputPosition
from exits_jax.train.feed import Input
from exits_jax.train.loop import Cadence, InputChanged, fit
from exits_jax.train.sharding import make_mesh, replicate
from exits_jax.train.state import TrainState
from exits_jax.train.stopping import Preempted
from exits_jax.train.window import TooManyUnreadable, UnknownMetric

POSITION = InputPosition(0, 4, 100, 7)


@jax.jit
def _step(state, batch):
    """A step that skips itself where it is not finite."""
    moved = state.params["w"] * 0.5 + batch["x"].mean()
    is_good = jnp.isfinite(moved).all()
    metrics = {
        "loss/total": moved.sum(),
        "optimizer/grad_norm": jnp.ones(()),
        "optimizer/skipped": 1.0 - is_good,
    }
    params = {"w": jnp.where(is_good, moved, state.params["w"])}
    return state.replace(step=state.step + 1, params=params), metrics


class _Batches:
    """Rows that hold the number of their step; notes that it was closed."""

    def __init__(self, start):
        self._steps = count(start)
        self.closed = False

    def __iter__(self):
        return self

    def __next__(self):
        return {"x": np.full(4, next(self._steps), np.float32)}

    def close(self):
        self.closed = True


class _Runner:
    """Runs `fit` in one folder, as often as wanted."""

    def __init__(self, folder):
        self.folder = folder
        self.inputs = []

    def __call__(
        self,
        *,
        step_fn=_step,
        position=POSITION,
        num_steps=10,
        every=4,
        max_bad_steps=10,
        max_unreadable=1.0,
        batches=_Batches,
        stall_s=60.0,
        **options,
    ):
        params = {"w": jnp.zeros(2)}
        state = TrainState.create(params, optax.sgd(0.1), with_teacher=False)
        checkpoints = Checkpoints(self.folder / "checkpoints", **options)

        def open_at(start):
            self.inputs.append(batches(start))
            return self.inputs[-1]

        try:
            return fit(
                replicate(make_mesh(), state),
                step_fn=step_fn,
                source=Input(
                    open=open_at,
                    position=position,
                    ids_of_step=lambda step: [f"a{step}", f"b{step}"],
                    image_name=lambda index: f"image {index // 2}",
                    stall_s=stall_s,
                ),
                cadence=Cadence(num_steps, every, 2, max_bad_steps, max_unreadable),
                checkpoints=checkpoints,
                mesh=make_mesh(),
                workdir=str(self.folder),
                run="train",
            )
        finally:
            checkpoints.close()

    def steps(self):
        names = [path.name for path in (self.folder / "checkpoints").iterdir()]
        return sorted(int(name) for name in names)

    def rows(self):
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
def runner(tmp_path):
    return _Runner(tmp_path)


def _said(caplog):
    ours = [r for r in caplog.records if r.name.startswith("exits_jax")]
    return [r.message for r in ours if r.levelname == "WARNING"]


def _breaking_at(wanted, action):
    """The step, with something happening before the one with this number."""

    def step_fn(state, batch):
        if int(state.step) == wanted:
            batch = action(batch) or batch
        return _step(state, batch)

    return step_fn


def _crash(batch):
    raise RuntimeError("the machine went away")


def test_a_run_ends_with_a_checkpoint_of_its_last_step(runner):
    state = runner()
    assert int(state.step) == 10 and runner.steps() == [8, 10]


def test_a_finished_run_takes_no_further_step(runner):
    first = runner()
    again = runner(step_fn=_crash)
    np.testing.assert_array_equal(first.params["w"], again.params["w"])
    assert len(runner.inputs) == 1


def test_a_broken_run_goes_on_from_its_checkpoint(runner, tmp_path):
    with pytest.raises(RuntimeError):
        runner(step_fn=_breaking_at(6, _crash))
    assert runner.steps() == [4]
    whole = _Runner(tmp_path / "whole")
    whole.folder.mkdir()
    np.testing.assert_array_equal(runner().params["w"], whole().params["w"])


def test_every_end_closes_the_input(runner):
    with pytest.raises(RuntimeError):
        runner(step_fn=_breaking_at(6, _crash))
    runner()
    assert [batches.closed for batches in runner.inputs] == [True, True]


def test_sigterm_saves_the_step_under_way(runner):
    stop = lambda batch: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Preempted, match="train was asked to stop .* at step 6"):
        runner(step_fn=_breaking_at(5, stop))
    assert runner.steps()[-1] == 6
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_sigterm_in_the_last_step_stops_what_would_follow(runner):
    stop = lambda batch: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Preempted, match="at step 10"):
        runner(step_fn=_breaking_at(9, stop))
    assert runner.steps()[-1] == 10


def _poison(batch):
    return {"x": batch["x"].at[0].set(jnp.nan)}


def _poisoned_at(*wanted):
    def step_fn(state, batch):
        is_bad = int(state.step) in wanted
        return _step(state, _poison(batch) if is_bad else batch)

    return step_fn


def test_a_step_that_is_not_finite_is_skipped_and_named(runner, caplog):
    state = runner(step_fn=_poisoned_at(3, 6))
    w = 0.0
    for step in (0, 1, 2, 4, 5, 7, 8, 9):
        w = 0.5 * w + step
    np.testing.assert_array_equal(state.params["w"], [w, w])
    said = _said(caplog)
    assert len(said) == 2
    assert said[0].startswith("train: step 3 was skipped: loss/total is nan")
    assert said[1].endswith("Its annotations: a6, b6.")


def test_means_leave_skipped_steps_out(runner):
    runner(step_fn=_poisoned_at(3, 6, 7))
    rows = runner.rows()
    assert [row["optimizer/skipped_steps"] for row in rows] == [0, 1, 1, 3, 3]
    w = 0.5 * 1 + 2  # of step 2, which shares its row with the skipped step 3
    assert rows[1]["loss/total"] == 2 * w
    assert "loss/total" not in rows[3]  # both steps of it were skipped
    assert all("optimizer/skipped" not in row for row in rows)


@pytest.mark.parametrize("limit", [0, 2])
def test_more_skipped_steps_than_allowed_end_the_run(runner, limit):
    with pytest.raises(FloatingPointError) as found:
        runner(step_fn=_poisoned_at(1, 5, 8), max_bad_steps=limit)
    step = (1, 5, 8)[limit]
    assert f"step {step} was skipped" in str(found.value)
    assert f"a{step}, b{step}" in str(found.value)
    assert f"train.max_bad_steps = {limit}" in str(found.value)
    assert all(saved <= step for saved in runner.steps())


def test_a_run_whose_every_step_was_skipped_has_not_ended_well(runner):
    all_bad = _poisoned_at(*range(10))
    for _ in range(2):  # and not either when it is asked for again
        with pytest.raises(FloatingPointError, match="all of its 10 steps were skipp"):
            runner(step_fn=all_bad, max_bad_steps=10)


def test_skipped_steps_are_counted_over_restarts(runner):
    with pytest.raises(FloatingPointError):
        runner(step_fn=_poisoned_at(1, 3, 6), max_bad_steps=2)
    assert runner.steps() == [4]  # with two skipped steps
    with pytest.raises(FloatingPointError, match="With it 3 steps were skipped"):
        runner(step_fn=_poisoned_at(9), max_bad_steps=2)


def _keeps_what_is_not_finite(wanted):
    def step_fn(state, batch):
        poisoned = int(state.step) == wanted
        state, metrics = _step(state, batch)
        if poisoned:
            state = state.replace(params={"w": jnp.full(2, jnp.nan)})
            metrics = metrics | {"loss/total": jnp.array(jnp.nan)}
        return state, metrics

    return step_fn


@pytest.mark.parametrize("at", [0, 3, 7, 9])
def test_what_is_not_finite_is_never_saved(runner, at):
    with pytest.raises(FloatingPointError, match=f"loss/total is nan at step {at}"):
        runner(step_fn=_keeps_what_is_not_finite(at))
    assert all(step <= at for step in runner.steps())
    assert np.isfinite(runner().params["w"]).all()


def test_a_gradient_that_is_not_finite_and_was_not_skipped_ends_the_run(runner):
    def step_fn(state, batch):
        state, metrics = _step(state, batch)
        return state, metrics | {"optimizer/grad_norm": jnp.array(jnp.inf)}

    with pytest.raises(FloatingPointError, match="grad_norm is inf at step 0"):
        runner(step_fn=step_fn)


def test_the_best_checkpoint_is_kept_besides_the_newest(runner):
    """The loss rises from step to step, so the first checkpoint stays the best."""
    runner(num_steps=20, keep=2, best_metric="loss/total")
    assert runner.steps() == [4, 16, 20]


def test_the_metric_of_a_checkpoint_is_the_mean_of_its_last_steps(runner):
    runner(num_steps=4, best_metric="loss/total")
    metrics = runner.folder / "checkpoints" / "4" / "metrics" / "metrics"
    losses, w = [], 0.0
    for step in range(4):
        w = 0.5 * w + step
        losses.append(2 * w)
    assert json.loads(metrics.read_text()) == {"loss/total": sum(losses[2:]) / 2}


def test_an_unknown_metric_is_refused_with_the_known_ones(runner):
    with pytest.raises(UnknownMetric, match="'loss/totl' .* it has loss/total, opt"):
        runner(best_metric="loss/totl")


class _Unreadable(_Batches):
    """Row 1 of each batch is unreadable, row 3 pads it."""

    def __next__(self):
        rows = super().__next__()
        first = 4 * int(rows["x"][0])
        index = np.array([first, first + 1, first + 2, -1], np.int32)
        valid = np.array([True, False, True, False])
        return rows | {"index": index, "valid": valid}


def test_a_storage_that_is_gone_ends_the_run_before_it_is_saved(runner):
    with pytest.raises(TooManyUnreadable, match="the images of 2 of the last 8 crops"):
        runner(num_steps=4, batches=_Unreadable, max_unreadable=0.2)
    assert runner.steps() == []


def test_unreadable_rows_are_counted_and_their_images_named_once(runner, caplog):
    runner(num_steps=4, batches=lambda start: islice(_Unreadable(start), 4))
    assert [row["input/unreadable_rows"] for row in runner.rows()] == [2, 2]
    said = _said(caplog)
    assert said == [
        f"image {image} cannot be read; its objects are left out."
        for image in (0, 2, 4, 6)
    ]
    caplog.clear()
    runner(num_steps=8, batches=lambda start: map(lambda _: _same_rows(), count()))
    assert len(_said(caplog)) == 1


def _same_rows():
    return next(_Unreadable(0))


class _Alarm:
    """In the place of `threading.Timer`: goes off in the wait for one step's input."""

    begun = []

    def __init__(self, seconds, warn):
        self.seconds, self.warn, self.is_cancelled = seconds, warn, False

    def start(self):
        self.begun.append(self)
        if len(self.begun) == 6:
            self.warn()

    def cancel(self):
        self.is_cancelled = True


def test_a_long_wait_for_the_input_is_said_once(runner, caplog, monkeypatch):
    monkeypatch.setattr(feed.threading, "Timer", _Alarm)
    monkeypatch.setattr(_Alarm, "begun", [])
    runner(stall_s=0.2)
    said = _said(caplog)
    assert said == [
        "train: waiting for input since 0.2 s. Slow or hanging storage?",
    ]
    assert len(_Alarm.begun) >= 10  # one for each wait
    assert all(each.seconds == 0.2 and each.is_cancelled for each in _Alarm.begun)


def test_batches_are_on_their_way_before_they_are_needed(runner):
    asked = []

    class Noted(_Batches):
        def __next__(self):
            rows = super().__next__()
            asked.append(int(rows["x"][0]))
            return rows

    seen = []

    def step_fn(state, batch):
        seen.append((int(state.step), asked[-1]))
        return _step(state, batch)

    runner(step_fn=step_fn, batches=Noted)
    assert seen == [(step, step + 1) for step in range(10)]


def _interrupt(*_):
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def handle_sigint():
    """Sets a handler of SIGINT, for this test alone."""
    before = signal.getsignal(signal.SIGINT)
    yield partial(signal.signal, signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def sigint_of_python(handle_sigint):
    handle_sigint(signal.default_int_handler)


@pytest.mark.usefixtures("sigint_of_python")
def test_the_first_sigint_saves_the_step_under_way(runner):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="is saved at step 6"):
        runner(step_fn=_breaking_at(5, _interrupt))
    assert runner.steps()[-1] == 6
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.usefixtures("sigint_of_python")
def test_the_second_sigint_stops_at_once(runner):
    def twice(*_):
        _interrupt()
        _interrupt()

    with pytest.raises(KeyboardInterrupt):
        runner(step_fn=_breaking_at(5, twice))
    assert runner.steps() == [4]


def test_a_handler_of_the_program_around_stays_in_place(runner, handle_sigint):
    seen = []
    handle_sigint(lambda *_: seen.append("SIGINT"))
    assert int(runner(step_fn=_breaking_at(5, _interrupt)).step) == 10
    assert seen == ["SIGINT"]


@pytest.mark.parametrize("at", [3, 4])
def test_a_stop_beside_a_regular_save_is_no_other(runner, at):
    stop = lambda batch: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Preempted, match=f"at step {at + 1}"):
        runner(step_fn=_breaking_at(at, stop))
    assert runner.steps()[-1] == at + 1
    assert int(runner().step) == 10
    assert [row["step"] for row in runner.rows()][-1] == 10


def test_a_stop_before_the_first_step_saves_nothing(runner, monkeypatch):
    monkeypatch.setattr(stopping.StopRequests, "is_due", lambda self: True)
    with pytest.raises(Preempted, match="at step 0"):
        runner(step_fn=_crash)
    assert runner.steps() == []


def test_a_row_of_the_log_is_written_before_its_steps_are_saved(runner):
    with pytest.raises(RuntimeError):
        runner(step_fn=_breaking_at(4, _crash))
    assert [row["step"] for row in runner.rows()] == [2, 4]


@pytest.mark.parametrize("field", ["global_batch", "num_samples", "seed"])
def test_another_input_is_refused(runner, field):
    with pytest.raises(RuntimeError):
        runner(step_fn=_breaking_at(6, _crash))
    with pytest.raises(InputChanged, match="checkpoint of train .*another input"):
        runner(position=POSITION._replace(**{field: 8}))


def test_metrics_are_means_since_the_row_before(runner):
    runner()
    rows = runner.rows()
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10]
    losses, w = [], 0.0
    for step in range(10):
        w = 0.5 * w + step
        losses.append(2 * w)
    expected = np.reshape(losses, (5, 2)).mean(axis=1)
    np.testing.assert_allclose([row["loss/total"] for row in rows], expected, rtol=1e-6)
    assert all(row["perf/images_per_s"] > 0 for row in rows)


def test_the_next_sample_follows_from_the_step(runner, tmp_path):
    runner()
    path = next((tmp_path / "checkpoints" / "8" / "input").iterdir())
    assert json.loads(path.read_text())["next_sample"] == 8 * POSITION.global_batch


def test_a_run_in_another_thread_leaves_signals_alone(runner, monkeypatch):
    def refuse(*_):
        raise ValueError("signal only works in main thread")

    monkeypatch.setattr(stopping.signal, "signal", refuse)
    assert int(runner().step) == 10
