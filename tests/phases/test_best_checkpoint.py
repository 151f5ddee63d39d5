import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from exits_jax.run.from_config import generator_builder
from exits_jax.run.starting_weights import load_params, random_params
from exits_jax.run.workdir import Workdir
from exits_jax.train.checkpoints import CheckpointError, Checkpoints, InputPosition
from exits_jax.train.sharding import make_mesh, shardings
from exits_jax.train.state import TrainState
from tests.support import toy

POSITION = InputPosition(0, 4, 100, 7)


@pytest.fixture
def run(tmp_path):
    """A run whose first checkpoint, with split parameters, was its best."""
    config = toy.config_for(tmp_path, tmp_path / "run", train__best_metric="loss/total")
    build = generator_builder(config, role="generator")
    start = random_params(config, build, salt=0)
    mesh = make_mesh(fsdp=4)
    create = partial(TrainState.create, optimizer=optax.sgd(0.1), with_teacher=False)
    state = create(start)
    workdir = Workdir(config.workdir)
    checkpoints = Checkpoints(
        workdir / "checkpoints" / "train", best_metric="loss/total"
    )
    with contextlib.closing(checkpoints):
        for step, metric in ((1, 0.1), (2, 0.7), (3, 0.5), (4, 0.6)):
            fill = partial(jnp.full_like, fill_value=step)
            params = jax.tree.map(fill, start)
            now = state.replace(step=jnp.asarray(step, jnp.int32), params=params)
            placed = jax.device_put(now, shardings(mesh, now))
            checkpoints.save(placed, POSITION, metric=metric, wait=True)
    return config, workdir


@pytest.mark.parametrize(("best", "step"), [(True, 1), (False, 4)])
def test_the_best_or_the_newest_is_read_whole_on_every_device(run, best, step):
    config, workdir = run
    params = load_params(config, workdir, "train", role="generator", best=best)
    for leaf in jax.tree.leaves(params):
        assert leaf.addressable_shards[0].data.shape == leaf.shape
        np.testing.assert_array_equal(leaf, step)


def test_the_best_by_another_metric_is_unknown(run):
    config, workdir = run
    config.train.best_metric = "loss/crf"
    with pytest.raises(CheckpointError, match="'loss/crf', by which the best is known"):
        load_params(config, workdir, "train", role="generator", best=True)
