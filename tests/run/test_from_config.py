"""A number that stands in `configs/base.py` and as a default of `ops` is one number."""

import inspect

from configs import base
from exits_jax.data.samples import CropOptions
from exits_jax.ops.mean_field import mean_field
from exits_jax.ops.retrieval import retrieve_points
from exits_jax.ops.transition import transition_matrix
from exits_jax.ops.walk import WalkOptions
from exits_jax.run import from_config
from exits_jax.train.objectives import CrfOptions, ImageStats

CONFIG = base.get_config()


def defaults_of(function):
    parameters = inspect.signature(inspect.unwrap(function)).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def test_crops():
    cached = CropOptions(cache_mb=CONFIG.data.cache_mb)
    assert from_config.crop_options(CONFIG) == cached


def test_image_statistics():
    assert from_config.image_stats(CONFIG) == ImageStats()


def test_the_walk_for_masks():
    assert from_config.walk_options(CONFIG).options == WalkOptions()


def test_the_loss_with_a_mean_field():
    options = from_config.crf_options(CONFIG)
    assert options == CrfOptions()
    shared = {"num_rounds", "colour_scale"}
    assert options._asdict().items() >= {
        (name, value)
        for name, value in defaults_of(mean_field).items()
        if name in shared
    }


def test_sinkhorn():
    rounds = CONFIG.similarity.sinkhorn_rounds
    assert defaults_of(transition_matrix)["num_rounds"] == rounds
    assert defaults_of(retrieve_points)["num_rounds"] == rounds
