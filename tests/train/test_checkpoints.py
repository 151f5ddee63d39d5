import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from exits_jax.train.checkpoints import Checkpoints, InputPosition
from exits_jax.train.sharding import data_mesh, replicate
from exits_jax.train.state import TrainState

POSITION = InputPosition(12, 4, 100, 7)


def _state(value, *, with_teacher=True):
    params = {"layer": {"w": jnp.full((3, 2), value), "b": jnp.full(2, -value)}}
    state = TrainState.create(params, optax.adamw(0.1), with_teacher=with_teacher)
    return replicate(data_mesh(), state.replace(step=jnp.asarray(3, jnp.int32)))


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
    checkpoints.save(state, POSITION)
    found, position = checkpoints.restore(_state(0.0, with_teacher=with_teacher))
    _assert_same(found, state)
    assert position == POSITION


def test_a_state_comes_back_where_it_was(checkpoints):
    state = _state(0.3)
    checkpoints.save(state, POSITION)
    found, _ = checkpoints.restore(_state(0.0))
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
    found, _ = again.restore(_state(0.0))
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
