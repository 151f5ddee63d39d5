"""What training depends on: not on masks, not on interruptions."""

import copy
import inspect
import json
import signal

import jax
import numpy as np
import pytest

from exits_jax import exit_status, main
from exits_jax.run import training
from tests.support import toy


def _without_masks(source):
    source = copy.deepcopy(source)
    for record in source["annotations"]:
        del record["segmentation"]
    return source


@pytest.fixture(scope="module")
def maskless_run(dataset, tmp_path_factory, whole_run):
    folder = tmp_path_factory.mktemp("maskless")
    source = json.loads((dataset / "annotations.json").read_text())
    toy.write_annotations(folder, _without_masks(source))
    (folder / "images").symlink_to(dataset / "images")
    config = toy.config_for(folder, folder / "run")
    assert main.run(config) == exit_status.OK
    return folder / "run"


@pytest.mark.parametrize("run", ["warmup", "train"])
def test_masks_never_reach_training(whole_run, maskless_run, run):
    toy.assert_same(toy.checkpoint(whole_run, run), toy.checkpoint(maskless_run, run))


def test_training_changes_every_tree(whole_run):
    found = toy.checkpoint(whole_run, "train")
    params = {k.removeprefix("params"): v for k, v in found.items() if "params" in k}
    teacher = {k.removeprefix("teacher"): v for k, v in found.items() if "teacher" in k}
    assert found["step"] == 30 and teacher
    assert any(np.any(params[key] != teacher[key]) for key in teacher)


@pytest.fixture(scope="module")
def resumed(dataset, tmp_path_factory, whole_run):
    """The run of `whole_run`, broken at step 17 and started again."""
    workdir = tmp_path_factory.mktemp("resumed") / "run"
    config = toy.config_for(dataset, workdir)
    steps = []

    def breaking(*args, **kwargs):
        step_fn = jitted_step(*args, **kwargs)
        steps.append(step_fn)

        def step(state, batch):
            if kwargs["make_labels"] and len(steps) == 2 and int(state.step) == 17:
                raise RuntimeError("the machine went away")
            return step_fn(state, batch)

        return step

    jitted_step = training.jitted_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "jitted_step", breaking)
        with pytest.raises(RuntimeError, match="went away"):
            main.run(config)
        assert toy.checkpoint(workdir, "train")["step"] == 10
        assert main.run(config) == exit_status.OK
    return workdir, steps


def test_a_broken_run_continues_bit_for_bit_on_four_devices(whole_run, resumed):
    assert jax.device_count() == 4
    toy.assert_same(
        toy.checkpoint(whole_run, "train"), toy.checkpoint(resumed[0], "train")
    )


def test_a_resumed_run_logs_every_step_once(whole_run, resumed):
    steps = [row["step"] for row in toy.rows(resumed[0], "train")]
    assert steps == [row["step"] for row in toy.rows(whole_run, "train")]


def test_no_run_compiles_a_step_twice(resumed):
    _, steps = resumed
    assert len(steps) == 3  # warmup, train, train again
    for step_fn in steps:
        seen = inspect.getclosurevars(inspect.unwrap(step_fn)).nonlocals
        assert seen["compiled"]._cache_size() == 1
        if seen["make_labels"]:
            assert seen["make_labels"].func._cache_size() == 1


def test_sigterm_saves_and_the_same_command_goes_on_bit_for_bit(
    dataset, whole_run, tmp_path, monkeypatch, capsys
):
    def stopping(*args, **kwargs):
        step_fn = jitted_step(*args, **kwargs)

        def step(state, batch):
            if kwargs["make_labels"] and int(state.step) == 17:
                signal.raise_signal(signal.SIGTERM)
            return step_fn(state, batch)

        return step

    jitted_step = training.jitted_step
    workdir = tmp_path / "stopped"
    config = toy.config_for(dataset, workdir)
    monkeypatch.setattr(training, "jitted_step", stopping)
    assert main.run(config) == exit_status.TRY_AGAIN
    monkeypatch.undo()
    said = capsys.readouterr().err
    assert "train was asked to stop and is saved at step 18." in said
    assert toy.checkpoint(workdir, "train")["step"] == 18
    assert not (workdir / "pseudo_masks.json").exists()
    assert not toy.leftovers(workdir)

    assert main.run(config) == exit_status.OK
    assert "going on from step 18" in capsys.readouterr().err
    toy.assert_same(
        toy.checkpoint(whole_run, "train"), toy.checkpoint(workdir, "train")
    )


@pytest.mark.slow
def test_one_device_learns_what_four_learn(dataset, whole_run, tmp_path):
    workdir = tmp_path / "one"
    flags = toy.as_flags(toy.config_for(dataset, workdir))
    status, said = toy.finish(toy.start(*flags))
    assert status == exit_status.OK, said
    for run in ("warmup", "train"):
        four, one = toy.rows(whole_run, run), toy.rows(workdir, run)
        assert len(four) == len(one)
        np.testing.assert_allclose(
            [row["loss/total"] for row in one],
            [row["loss/total"] for row in four],
            rtol=1e-3,
        )
