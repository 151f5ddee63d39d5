"""Whole steps with one way of attending beside another, split and in parts."""

import numpy as np
import pytest

from configs import voc
from exits_jax.run.from_config import mesh_of
from exits_jax.run.workdir import Workdir
from exits_jax.train.sharding import shard_batch

pytest.importorskip("torch", reason="needs the 'convert' extra")

from benchmarks.common.drawn_batch import drawn_batch  # noqa: E402
from benchmarks.common.step_methods import JaxStep, start_of  # noqa: E402

pytestmark = pytest.mark.torch
STEPS = 20


def config_of(attention, dtype):
    config = voc.get_config()
    config.batch_size, config.grad_accum = 8, 2
    config.mesh.data, config.mesh.fsdp = 2, 2
    config.crop.size = 32
    config.model.dim, config.model.depth, config.model.heads = 32, 2, 4
    config.model.patch_size = 8
    config.model.dtype = dtype
    config.model.attention = attention
    config.model.scan, config.model.remat = True, "dots"
    config.decoder.features = 8
    config.similarity.layers = (2,)
    config.init.encoder = ""
    config.points.inward_margin_px = 2.0
    config.optimizer.lr_per_sample = 0.01
    config.loss.crf_rounds = 3
    return config


def losses(folder, attention, dtype):
    config = config_of(attention, dtype)
    step = JaxStep(config, start_of(config, Workdir(folder)), method="exits")
    batch = shard_batch(mesh_of(config), drawn_batch(8, 32, seed=0))
    return np.array([step(batch) for _ in range(STEPS)])


def test_twenty_steps_of_two_ways_differ_by_what_bfloat16_rounds(tmp_path):
    exact = losses(tmp_path, "together", "float32")
    together = losses(tmp_path, "together", "bfloat16")
    in_parts = losses(tmp_path, "in_parts", "bfloat16")
    assert np.ptp(exact) > 0.02  # they learn
    rounding = np.abs(together - exact).max()
    assert np.abs(in_parts - together).max() <= 2 * rounding
    assert rounding < 0.01
