"""Defaults beside those of `configs/base.py` are the same numbers."""

import inspect

import pytest

from configs import base
from convert_weights.__main__ import DECODER
from convert_weights.facts import IMAGENET
from exits_jax.data.batches import trainable
from exits_jax.data.samples import CropOptions
from exits_jax.models.autoencoder import AutoencoderConfig
from exits_jax.models.mask_decoder import DecoderConfig
from exits_jax.models.prompt import PromptConfig
from exits_jax.models.vit import VitConfig
from exits_jax.ops.mean_field import mean_field
from exits_jax.ops.propagation import converged_scores, converged_transition
from exits_jax.ops.retrieval import retrieve_points
from exits_jax.ops.transition import transition_matrix
from exits_jax.ops.walk import WalkOptions
from exits_jax.run import from_config
from exits_jax.run.extractor import autoencoder_config
from exits_jax.train.objectives import CrfOptions, ImageStats
from exits_jax.train.optimizer import learning_rate

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


def test_the_walk_without_end():
    blend = CONFIG.points.blend
    assert defaults_of(retrieve_points)["blend"] == blend
    assert defaults_of(converged_scores)["blend"] == blend
    assert defaults_of(converged_transition)["blend"] == blend


def test_objects_to_train_on():
    limits = {"min_area": CONFIG.data.min_area_px, "min_side": CONFIG.data.min_side_px}
    assert defaults_of(trainable) == limits


def test_the_end_of_the_schedule():
    assert defaults_of(learning_rate) == {"floor": CONFIG.optimizer.floor}


def test_the_encoder():
    encoder = from_config.encoder_config(CONFIG, role="generator")
    own = VitConfig()
    assert encoder == own._replace(dtype=encoder.dtype, attention=encoder.attention)


def test_the_autoencoder():
    assert autoencoder_config(CONFIG) == AutoencoderConfig()


def test_the_decoder():
    decoder = from_config.generator_builder(CONFIG, role="generator").decoder
    assert decoder == DecoderConfig(dtype=decoder.dtype)
    assert {**CONFIG.decoder} == {"features": decoder.features, **DECODER}


def test_prompts():
    config = base.get_config()
    config.prompt.enabled = True
    assert from_config.prompt_config(config) == PromptConfig()


def test_images_of_converted_weights():
    assert IMAGENET == (CONFIG.init.image_mean, CONFIG.init.image_std)


@pytest.mark.torch
def test_files_for_pytorch_that_do_not_say_what_they_are():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from convert_weights.torch_generator import UNSAID

    assert UNSAID == {
        "crop_size": str(CONFIG.crop.size),
        "test_margin": str(CONFIG.crop.test_margin),
        "threshold": str(CONFIG.generate.threshold),
    }


def test_sinkhorn():
    rounds = CONFIG.similarity.sinkhorn_rounds
    assert defaults_of(transition_matrix)["num_rounds"] == rounds
    assert defaults_of(retrieve_points)["num_rounds"] == rounds
