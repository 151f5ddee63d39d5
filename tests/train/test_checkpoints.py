import contextlib
import random
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from exits_jax.train import checkpoints as checkpoints_module
from exits_jax.train.checkpoint_seals import SEALS
from exits_jax.train.checkpoints import CheckpointError, Checkpoints, InputPosition
from exits_jax.train.sharding import make_mesh, replicate
from exits_jax.train.state import TrainState

# Orbax leaves tasks that nobody waits for any more when another one fails; they may end
# as late as in the next test.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:coroutine .* was never awaited:RuntimeWarning",
)

POSITION = InputPosition(12, 4, 100, 7)


def _state(value, *, with_teacher=True):
    params = {"layer": {"w": jnp.full((3, 2), value), "b": jnp.full(2, -value)}}
    state = TrainState.create(params, optax.adamw(0.1), with_teacher=with_teacher)
    return replicate(make_mesh(), state.replace(step=jnp.asarray(3, jnp.int32)))


def _assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def checkpoints(tmp_path):
    opened = Checkpoints(tmp_path / "run")
    yield opened
    opened.close()


@pytest.mark.parametrize("with_teacher", [True, False])
def test_a_state_comes_back_as_it_was(checkpoints, with_teacher):
    state = _state(0.3, with_teacher=with_teacher)
    checkpoints.save(state, POSITION, skipped_steps=5)
    found = checkpoints.restore(_state(0.0, with_teacher=with_teacher))
    _assert_same(found.state, state)
    assert found.position == POSITION and found.skipped_steps == 5


def test_a_state_comes_back_where_it_was(checkpoints):
    state = _state(0.3)
    checkpoints.save(state, POSITION)
    found = checkpoints.restore(_state(0.0)).state
    places = lambda tree: [leaf.sharding for leaf in jax.tree.leaves(tree)]
    assert places(found) == places(state)


@pytest.mark.parametrize("which", ["params", "teacher"])
def test_one_tree_can_be_read_alone(checkpoints, which):
    state = _state(0.3)
    state = state.replace(teacher_params=jax.tree.map(lambda x: 2 * x, state.params))
    checkpoints.save(state, POSITION)
    found = checkpoints.restore_params(_state(0.0).params, which=which)
    _assert_same(found, state.params if which == "params" else state.teacher_params)


def test_only_the_newest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run", keep=2)
    for step in (3, 6, 9):
        state = _state(float(step))
        checkpoints.save(state.replace(step=jnp.asarray(step, jnp.int32)), POSITION)
    checkpoints.close()
    kept = {int(path.name) for path in (tmp_path / "run").iterdir()}
    assert kept == {6, 9}
    again = Checkpoints(tmp_path / "run")
    assert again.latest_step == 9
    found = again.restore(_state(0.0)).state
    np.testing.assert_array_equal(found.params["layer"]["b"], [-9.0, -9.0])
    again.close()


def test_an_unfinished_write_is_not_a_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run")
    checkpoints.save(_state(0.3), POSITION)
    checkpoints.close()
    (tmp_path / "run" / "9.orbax-checkpoint-tmp").mkdir()
    again = Checkpoints(tmp_path / "run")
    assert again.latest_step == 3
    again.close()


def test_an_empty_folder_says_so(checkpoints):
    assert checkpoints.latest_step is None
    with pytest.raises(FileNotFoundError, match="No checkpoint in .*run"):
        checkpoints.restore_params(_state(0.0).params)


def _at(step):
    return _state(float(step)).replace(step=jnp.asarray(step, jnp.int32))


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of the steps 3, 6 and 9."""
    with contextlib.closing(Checkpoints(tmp_path / "run", keep=5)) as checkpoints:
        for step in (3, 6, 9):
            checkpoints.save(_at(step), POSITION)
    return tmp_path / "run"


def _largest(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    files = [path for path in files if path.name != "commit_success.txt"]
    return max(files, key=lambda path: path.stat().st_size)


def _truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# What can be broken in a checkpoint, and what the warning says of it.
BREAKS = {
    "data": (lambda at: _truncate(_largest(at / "params" / "d")), " were written"),
    "manifest": (
        lambda at: _truncate(at / "optimizer" / "manifest.ocdbt"),
        "optimizer/manifest.ocdbt has ",
    ),
    "metadata": (
        lambda at: (at / "_CHECKPOINT_METADATA").unlink(),
        "_CHECKPOINT_METADATA is missing",
    ),
    "item": (lambda at: shutil.rmtree(at / "teacher"), "teacher/_METADATA is missing"),
    "position": (
        lambda at: (at / "input" / "metadata").write_text(""),
        "input/metadata has 0 bytes, but ",
    ),
    "everything": (
        lambda at: [shutil.rmtree(at), at.mkdir()],
        "_CHECKPOINT_METADATA is missing",
    ),
}


def _open(folder, **options):
    return contextlib.closing(Checkpoints(folder, keep=5, **options))


def _restored_step(folder, **options):
    with _open(folder, **options) as checkpoints:
        return int(checkpoints.restore(_state(0.0)).state.step)


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


# The same without seals, as earlier versions wrote them.
UNSEALED = {"data": "ValueError", "manifest": "Error decoding manifest"}


@pytest.mark.parametrize("name", UNSEALED)
def test_a_broken_checkpoint_without_seals_is_noticed_by_its_reader(
    folder, name, caplog
):
    (folder / "9" / SEALS).unlink()
    BREAKS[name][0](folder / "9")
    assert _restored_step(folder) == 6
    assert UNSEALED[name] in caplog.text


def test_a_checkpoint_without_seals_is_read(folder):
    (folder / "9" / SEALS).unlink()
    assert _restored_step(folder) == 9


@pytest.mark.parametrize("seed", range(6))
def test_any_bit_that_flips_in_what_is_read_gives_way_to_the_one_before(folder, seed):
    rng = random.Random(seed)
    item = ("params", "optimizer", "teacher", "input")[seed % 4]
    path = _largest(folder / "9" / item)
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    assert _restored_step(folder) == 6


@pytest.mark.parametrize("text", ["[]", '"text"', '{"item_handlers": 3}'])
def test_damaged_notes_of_orbax_are_named(folder, text):
    (folder / "6" / "_CHECKPOINT_METADATA").write_text(text)
    with pytest.raises(CheckpointError, match="6/_CHECKPOINT_METADATA is damaged"):
        _restored_step(folder)


def test_a_damaged_seal_gives_way_to_the_checkpoint_before(folder, caplog):
    (folder / "9" / SEALS).write_text("[]")
    assert _restored_step(folder) == 6
    assert "9/seals.json is damaged: it holds no JSON object" in caplog.text


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_newest_checkpoint_gives_way_to_the_one_before(folder, name, caplog):
    action, reason = BREAKS[name]
    action(folder / "9")
    assert _restored_step(folder) == 6
    assert _names(folder) == ["3", "6", "9.broken"]
    said = [r.message for r in caplog.records if r.name.startswith("exits_jax")]
    assert len(said) == 1
    assert said[0].startswith("The checkpoint 9 in ") and reason in said[0]
    assert "is now called 9.broken" in said[0]


def test_a_step_that_was_broken_can_be_saved_and_broken_again(folder):
    for expected in (["9", "9.broken"], ["9", "9.broken", "9.broken-2"]):
        BREAKS["manifest"][0](folder / "9")
        assert _restored_step(folder) == 6
        with _open(folder) as checkpoints:
            checkpoints.save(_at(9), POSITION)
        assert _names(folder) == ["3", "6", *expected]
        assert _restored_step(folder) == 9


def test_a_broken_newest_checkpoint_is_an_error_where_that_is_asked_for(folder):
    BREAKS["manifest"][0](folder / "9")
    with pytest.raises(CheckpointError, match="train.strict_resume=False .* 6"):
        _restored_step(folder, strict=True)
    assert _names(folder) == ["3", "6", "9"]


def test_without_any_good_checkpoint_every_reason_is_said(folder):
    for step, name in ((3, "metadata"), (6, "position"), (9, "manifest")):
        BREAKS[name][0](folder / str(step))
    with pytest.raises(CheckpointError) as found:
        _restored_step(folder)
    assert "9/optimizer/manifest.ocdbt has " in str(found.value)
    assert "6/input/metadata has 0 bytes" in str(found.value)
    assert "3: FileNotFoundError: _CHECKPOINT_METADATA is missing" in str(found.value)
    assert _names(folder) == ["3", "6", "9"]


def test_an_incomplete_copy_is_set_aside_and_never_deleted(folder):
    copy = folder / "4"
    shutil.copytree(folder / "3", copy)
    (copy / "_CHECKPOINT_METADATA").unlink()
    before = sorted(path.relative_to(copy) for path in copy.rglob("*"))
    with contextlib.closing(Checkpoints(folder, keep=1)) as checkpoints:
        checkpoints.restore(_state(0.0))
        checkpoints.save(_at(12), POSITION)
    assert _names(folder) == ["12", "4.broken"]
    kept = folder / "4.broken"
    assert sorted(path.relative_to(kept) for path in kept.rglob("*")) == before


def test_what_an_interrupted_write_left_is_removed(folder):
    left = folder / "12.orbax-checkpoint-tmp" / "params"
    left.mkdir(parents=True)
    (left / "half").write_text("")
    (folder / "notes").mkdir()
    with _open(folder) as checkpoints:
        checkpoints.save(_at(12), POSITION)
    assert _names(folder) == ["12", "3", "6", "9", "notes"]


def test_broken_parameters_are_not_taken_from_elsewhere(folder):
    BREAKS["manifest"][0](folder / "9")
    BREAKS["data"][0](folder / "9")
    with _open(folder) as checkpoints:
        with pytest.raises(CheckpointError, match="run/9 cannot be read: .*/params/"):
            checkpoints.restore_params(_state(0.0).params)
    assert _names(folder) == ["3", "6", "9"]


def test_errors_of_the_device_are_no_fault_of_a_checkpoint(folder, monkeypatch):
    def exhaust(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(
        checkpoints_module.ocp.StandardCheckpointHandler, "restore", exhaust
    )
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        _restored_step(folder)
    assert _names(folder) == ["3", "6", "9"]


def test_the_best_are_kept_and_can_be_read(tmp_path):
    def opened():
        found = Checkpoints(
            tmp_path / "run", keep=1, best_metric="loss/total", keep_best=2
        )
        return contextlib.closing(found)

    losses = {3: 0.5, 6: 0.2, 9: None, 12: 0.3, 15: 0.9}
    for step, loss in losses.items():
        with opened() as checkpoints:  # what is best survives a restart
            checkpoints.save(_at(step), POSITION, metric=loss)
    assert _names(tmp_path / "run") == ["12", "15", "6"]
    with opened() as checkpoints:
        like = _state(0.0).params
        best = checkpoints.restore_params(like, best=True)
        newest = checkpoints.restore_params(like)
    np.testing.assert_array_equal(best["layer"]["b"], [-6.0, -6.0])
    np.testing.assert_array_equal(newest["layer"]["b"], [-15.0, -15.0])


@pytest.mark.parametrize("metric", ["", "loss/total"])
def test_the_best_of_checkpoints_without_the_metric_is_unknown(folder, metric):
    with _open(folder, best_metric=metric) as checkpoints:
        with pytest.raises(CheckpointError, match="by which the best is known"):
            checkpoints.restore_params(_state(0.0).params, best=True)


@pytest.fixture
def full_disk():
    """Lets no file grow beyond a few bytes, until it is called."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    free = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    yield free
    free()


@pytest.mark.parametrize("wait", [True, False])
def test_a_write_that_fails_twice_is_an_error_and_loses_nothing(
    folder, full_disk, wait, caplog
):
    with _open(folder) as checkpoints:
        with pytest.raises(
            CheckpointError, match="could not be written, twice: .*File"
        ):
            for step in (12, 15):
                checkpoints.save(_at(step), POSITION, wait=wait)
    full_disk()
    assert not [r for r in caplog.records if r.exc_info]
    assert _restored_step(folder) == 9
    assert _names(folder) == ["3", "6", "9"]


def test_a_write_that_fails_once_is_made_good_by_the_next(
    folder, full_disk, caplog, monkeypatch
):
    with _open(folder) as checkpoints:

        def open_with_room():
            full_disk()
            return open_again()

        open_again = checkpoints._open
        monkeypatch.setattr(checkpoints, "_open", open_with_room)
        checkpoints.save(_at(12), POSITION)
        checkpoints.save(_at(15), POSITION)
    assert "Trying once more, with step 15" in caplog.text
    assert _names(folder) == ["15", "3", "6", "9"]
    assert _restored_step(folder) == 15
