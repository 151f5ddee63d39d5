import json
import os
import signal
from itertools import count

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from exits_jax.train import loop
from exits_jax.train.checkpoints import Checkpoints, InputPosition
from exits_jax.train.loop import Cadence, InputChanged, Preempted, fit
from exits_jax.train.sharding import data_mesh, replicate
from exits_jax.train.state import TrainState

POSITION = InputPosition(0, 4, 100, 7)


@jax.jit
def _step(state, batch):
    params = {"w": state.params["w"] * 0.5 + batch["x"].mean()}
    metrics = {"loss/total": params["w"].sum(), "optimizer/grad_norm": jnp.ones(())}
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

    def __call__(self, *, step_fn=_step, position=POSITION, num_steps=10, every=4):
        params = {"w": jnp.zeros(2)}
        state = TrainState.create(params, optax.sgd(0.1), with_teacher=False)
        checkpoints = Checkpoints(self.folder / "checkpoints")
        try:
            return fit(
                replicate(data_mesh(), state),
                step_fn=step_fn,
                open_input=self._open,
                position=position,
                cadence=Cadence(num_steps, checkpoint_every=every, log_every=2),
                checkpoints=checkpoints,
                mesh=data_mesh(),
                workdir=str(self.folder),
                run="train",
            )
        finally:
            checkpoints.close()

    def _open(self, start):
        self.inputs.append(_Batches(start))
        return self.inputs[-1]

    def steps(self):
        names = [path.name for path in (self.folder / "checkpoints").iterdir()]
        return sorted(int(name) for name in names)

    def rows(self):
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
def runner(tmp_path):
    return _Runner(tmp_path)


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


@pytest.mark.parametrize("at", [0, 3, 7, 9])
def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(runner, at):
    with pytest.raises(FloatingPointError, match=f"loss/total is nan at step {at}"):
        runner(step_fn=_breaking_at(at, _poison))


@pytest.mark.parametrize("at", [3, 7, 9])
def test_what_is_not_finite_is_never_saved(runner, at):
    with pytest.raises(FloatingPointError):
        runner(step_fn=_breaking_at(at, _poison))
    assert all(step <= at for step in runner.steps())
    assert np.isfinite(runner().params["w"]).all()


def test_a_gradient_that_is_not_finite_stops_the_run(runner):
    def step_fn(state, batch):
        state, metrics = _step(state, batch)
        return state, metrics | {"optimizer/grad_norm": jnp.array(jnp.inf)}

    with pytest.raises(FloatingPointError, match="grad_norm is inf at step 0"):
        runner(step_fn=step_fn)


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

    monkeypatch.setattr(loop.signal, "signal", refuse)
    assert int(runner().step) == 10
