"""Crops that could not be read, from the input to the step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from exits_jax.data.batches import train_batches
from exits_jax.data.records import Instance
from exits_jax.data.samples import CropOptions
from exits_jax.data.table import Instances
from exits_jax.models.autoencoder import AutoencoderConfig, MaskedAutoencoder
from exits_jax.models.generator import PseudoLabelGenerator
from exits_jax.models.mask_decoder import DecoderConfig
from exits_jax.models.vit import VisionTransformer, VitConfig
from exits_jax.train.objectives import (
    CrfOptions,
    ImageStats,
    Weights,
    autoencoder_objective,
    box_objective,
    exits_objective,
    mil_objective,
)
from exits_jax.train.state import TrainState
from exits_jax.train.step import PointOptions, label_step, train_step
from tests.support.toy import model

SIZE, PATCH, ROWS = 32, 8, 4
STATS, CRF = ImageStats(), CrfOptions(num_rounds=2)
WEIGHTS = Weights(mil=10.0, point=0.5, crf=0.5, crf_ramp_steps=0, mil_ramp_steps=0)
ENCODER = VitConfig(
    dim=8, depth=1, heads=2, patch_size=PATCH, position_grid=4, class_token=False
)
GRAPH, PARAMS = model(
    lambda rngs: PseudoLabelGenerator(ENCODER, DecoderConfig(features=4), rngs=rngs),
    seed=3,
)
AUTOENCODER, AUTOENCODER_PARAMS = model(
    lambda rngs: MaskedAutoencoder(
        ENCODER,
        AutoencoderConfig(mask_ratio=0.5, dim=8, depth=1, heads=2),
        grid=SIZE // PATCH,
        rngs=rngs,
    )
)
EXTRACTOR, EXTRACTOR_PARAMS = model(lambda rngs: VisionTransformer(ENCODER, rngs=rngs))
POINTS = PointOptions(
    layers=(1,),
    num_hops=2,
    fg_threshold=1e-5,
    bg_threshold=-1e-5,
    num_rounds=3,
    blend=0.25,
    dropout_rate=0.2,
    inward_margin_px=2.0,
    background="outside",
    use_padding=False,
    use_pseudo=True,
)
OBJECTIVES = {
    "mil": (mil_objective(GRAPH, stats=STATS), PARAMS),
    "exits": (
        exits_objective(
            GRAPH, weights=WEIGHTS, crf=CRF, stats=STATS, pooling="bilinear"
        ),
        PARAMS,
    ),
    "box": (box_objective(GRAPH, weights=WEIGHTS, crf=CRF, stats=STATS), PARAMS),
    "autoencoder": (
        autoencoder_objective(AUTOENCODER, stats=STATS),
        AUTOENCODER_PARAMS,
    ),
}


class Storage:
    """Drawn images, of which some are gone."""

    def __init__(self, gone):
        self.gone = gone

    def read(self, image, *, reduced_by=1):
        if image in self.gone:
            raise FileNotFoundError(self.name(image))
        return np.random.default_rng(image).integers(0, 256, (40, 48, 3), np.uint8)

    def name(self, image):
        return f"image {image}"


def read_batch(gone):
    """One batch of four objects in as many images."""
    points = np.array([[20, 5], [6, 17], [21, 30], [37, 15]], np.float32)
    objects = [
        Instance(i, i, 1, "", (40, 48), points, (6.0, 5.0, 38.0, 31.0), False, ())
        for i in range(ROWS)
    ]
    columns = Instances.of(objects).with_images(Storage(gone))
    (batch,) = train_batches(
        columns,
        CropOptions(crop_size=SIZE),
        seed=0,
        global_batch=ROWS,
        start_step=0,
        num_steps=1,
        num_threads=0,
        shuffle=False,
        skip_unreadable=True,
    )
    return batch


@pytest.fixture(scope="module")
def label():
    """Supervision of a batch, and the metrics of its points."""
    compiled = jax.jit(
        lambda params, batch: label_step(
            EXTRACTOR, params, batch, options=POINTS, stats=STATS, patch_size=PATCH
        )
    )
    return lambda batch: compiled(EXTRACTOR_PARAMS, batch)


@pytest.fixture(scope="module")
def graded():
    """Loss and gradient of an objective on a batch with supervision."""
    made = {
        name: jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
        for name, (loss_fn, _) in OBJECTIVES.items()
    }

    def run(name, batch):
        params = OBJECTIVES[name][1]
        return made[name](params, params, batch, jnp.asarray(0, jnp.int32))

    return run


def without(batch, row):
    return {name: np.delete(value, row, axis=0) for name, value in batch.items()}


def all_finite(tree):
    return all(np.isfinite(x).all() for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", ["mil", "exits"])
def test_an_unreadable_image_leaves_the_loss_of_the_others(name, label, graded):
    batch = read_batch(gone={2})
    assert batch["valid"].tolist() == [True, True, False, True]
    labels, _ = label(batch)
    full = batch | jax.device_get(labels)
    (masked, _), masked_grads = graded(name, full)
    (plain, _), grads = graded(name, without(full, 2))
    assert plain > 0
    np.testing.assert_allclose(masked, plain, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        masked_grads,
        grads,
    )


def test_an_unreadable_image_leaves_the_points_of_the_others(label):
    batch = read_batch(gone={2})
    labels, metrics = label(batch)
    expected, expected_metrics = label(without(batch, 2))
    for name, value in expected.items():
        np.testing.assert_allclose(
            np.delete(labels[name], 2, axis=0), value, err_msg=name
        )
    for name, value in expected_metrics.items():
        np.testing.assert_allclose(
            metrics[name], value, rtol=1e-5, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_batch_without_any_image_has_no_loss_and_no_gradient(name, label, graded):
    batch = read_batch(gone=set(range(ROWS)))
    assert not batch["valid"].any()
    labels, metrics = label(batch)
    (loss, _), grads = graded(name, batch | labels)
    assert loss == 0 and all_finite(metrics)
    assert all((np.asarray(g) == 0).all() for g in jax.tree.leaves(grads))


def test_a_step_without_any_image_keeps_the_state_finite(label):
    batch = read_batch(gone=set(range(ROWS)))
    optimizer = optax.adamw(0.01, weight_decay=0.1)
    state = TrainState.create(PARAMS, optimizer=optimizer, with_teacher=True)
    moved, metrics = jax.jit(
        lambda state, batch: train_step(
            state,
            batch,
            loss_fn=OBJECTIVES["exits"][0],
            optimizer=optimizer,
            schedule=lambda step: jnp.asarray(0.01),
            teacher_decay=0.9,
        )
    )(state, batch | label(batch)[0])
    assert all_finite((moved.params, moved.teacher_params, moved.opt_state, metrics))
    assert metrics["optimizer/skipped"] == 0 and moved.step == 1
