"""A training run under faults; in a process of its own where the fault needs it."""

import os
import resource
import signal

import numpy as np
import pytest

from exits_jax import exit_status, main
from tests.faults import commands
from tests.support import toy
from tests.support.processes import finish_all
from tests.support.waiting import wait_until


def _finish(flags, **options):
    ((status, said),) = finish_all(commands.start(flags, **options))
    return status, said


def _assert_same_as(whole, workdir):
    toy.assert_same(toy.checkpoint(whole, "train"), toy.checkpoint(workdir, "train"))
    assert commands.losses(workdir) == commands.losses(whole)
    assert not list(commands.folder(workdir).glob("*tmp*"))


def test_f02_f03_a_run_killed_while_saving_and_then_interrupted_goes_on_bit_for_bit(
    dataset, workdir, whole
):
    flags = commands.flags_for(dataset, workdir)
    started = commands.start(flags)
    wait_until(lambda: commands.is_saving(workdir), started)
    started[0].kill()
    finish_all(started)
    before = commands.saved(workdir)
    assert before and before[-1] < commands.STEPS

    started = commands.start(flags)
    wait_until(lambda: commands.saved(workdir)[-1] > before[-1], started)
    started[0].send_signal(signal.SIGINT)
    ((status, said),) = finish_all(started)
    assert status == exit_status.INTERRUPTED, said
    assert f"going on from step {before[-1]}" in said
    assert "is saved at step" in said and "Traceback" not in said
    assert before[-1] < commands.saved(workdir)[-1] < commands.STEPS

    status, said = _finish(flags)
    assert status == exit_status.OK, said
    _assert_same_as(whole, workdir)


@pytest.mark.slow
def test_f06_a_full_disk_ends_the_run_and_room_lets_it_go_on(dataset, workdir, whole):
    flags = commands.flags_for(dataset, workdir)
    started = commands.start(flags)
    wait_until(lambda: bool(commands.saved(workdir)), started)
    limit = (2000, resource.RLIM_INFINITY)
    resource.prlimit(started[0].pid, resource.RLIMIT_FSIZE, limit)
    ((status, said),) = finish_all(started)
    assert status == exit_status.BAD_INPUT, said
    assert "Trying once more" in said
    # Threads of tensorstore may still speak after it.
    assert "error: The checkpoint " in said and "make room" in said
    assert said.count("Metrics of train cannot be written to metrics.jsonl") == 1
    assert commands.saved(workdir)

    status, said = _finish(flags)
    assert status == exit_status.OK, said
    toy.assert_same(toy.checkpoint(whole, "train"), toy.checkpoint(workdir, "train"))


def test_f08_a_broken_newest_checkpoint_gives_way_to_the_one_before(
    dataset, whole, tmp_path, capsys
):
    workdir = tmp_path / "run"
    commands.unfinished(whole, workdir, at=110)
    manifest = commands.folder(workdir) / "110" / "params" / "manifest.ocdbt"
    manifest.write_bytes(manifest.read_bytes()[:20])
    config = commands.config_for(dataset, workdir, train__strict_resume=True)
    assert main.run(config, "train") == exit_status.BAD_INPUT
    said = capsys.readouterr().err
    assert "The newest checkpoint in " in said and "from checkpoint 100" in said
    assert 110 in commands.saved(workdir)

    config.train.strict_resume = False
    assert main.run(config, "train") == exit_status.OK
    said = capsys.readouterr().err
    assert "checkpoint 110 in " in said and "is now called 110.broken" in said
    assert "going on from step 100" in said
    assert (commands.folder(workdir) / "110.broken").exists()
    _assert_same_as(whole, workdir)


def test_f12_a_run_that_only_makes_nan_stops_with_steps_and_annotations(
    dataset, workdir, capsys
):
    config = commands.config_for(
        dataset, workdir, train__lr=2e9, train__ramp_up=0.0, train__max_bad_steps=3
    )
    assert main.run(config, "train") == exit_status.FAILED
    said = capsys.readouterr().err
    assert said.count(" was skipped: loss/total is ") == 5  # warned of 4, an error
    assert "With it 4 steps were skipped, more than train.max_bad_steps = 3" in said
    ids = [
        int(x)
        for x in said.rpartition("Its annotations: ")[2].split(".")[0].split(", ")
    ]
    assert len(ids) == 4 and all(10 <= number < 90 for number in ids)
    assert "Traceback" not in said


@pytest.mark.slow
def test_f20_the_environment_has_no_effect(dataset, workdir, whole):
    strange = {
        "TZ": "Pacific/Kiritimati",
        "LC_ALL": "C",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONUTF8": "0",
        "HOME": "/nonexistent",
    }
    flags = commands.flags_for(dataset, workdir)
    before = os.umask(0o077)
    try:
        started = commands.start(flags, env=strange)
    finally:
        os.umask(before)
    ((status, said),) = finish_all(started)
    assert status == exit_status.OK, said
    _assert_same_as(whole, workdir)


def _eight(dataset, workdir):
    return commands.flags_for(
        dataset,
        workdir,
        loss__method="exits",
        batch_size=8,
        generate__batch_size=8,
        warmup__steps=2,
        train__steps=30,
    )


@pytest.fixture(scope="module")
def on_eight(dataset, tmp_path_factory):
    """A whole run with points in two processes of four devices each."""
    workdir = tmp_path_factory.mktemp("eight") / "run"
    flags = _eight(dataset, workdir)
    started = commands.start(flags[:-1], num_processes=2, devices=4)
    ends = finish_all(started)
    assert [status for status, _ in ends] == [exit_status.OK] * 2, ends
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 4])
def test_f10_a_run_of_two_processes_goes_on_in_one_with_the_same_losses(
    dataset, on_eight, tmp_path, devices
):
    workdir = tmp_path / "run"
    commands.unfinished(on_eight, workdir, at=20)
    status, said = _finish(_eight(dataset, workdir), devices=devices)
    assert status == exit_status.OK, said
    assert "going on from step 20" in said
    found, wanted = commands.losses(workdir), commands.losses(on_eight)
    assert found.keys() == wanted.keys()
    np.testing.assert_allclose(list(found.values()), list(wanted.values()), rtol=1e-5)
