import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exits_jax.models.autoencoder import AutoencoderConfig, MaskedAutoencoder
from exits_jax.models.generator import PseudoLabelGenerator
from exits_jax.models.mask_decoder import DecoderConfig
from exits_jax.models.vit import VitConfig
from exits_jax.train.objectives import (
    CrfOptions,
    ImageStats,
    Weights,
    autoencoder_objective,
    box_objective,
    exits_objective,
    mil_objective,
    normalise,
)
from tests.support.toy import model

SIZE, PATCH = 32, 8
ENCODER = VitConfig(
    dim=8, depth=1, heads=2, patch_size=PATCH, position_grid=4, class_token=False
)
WEIGHTS = Weights(mil=10.0, point=0.5, crf=0.5, crf_ramp_steps=10, mil_ramp_steps=4)
CRF = CrfOptions(num_rounds=2)
STATS = ImageStats()
GRAPH, PARAMS = model(
    lambda rngs: PseudoLabelGenerator(ENCODER, DecoderConfig(features=4), rngs=rngs),
    seed=3,  # some of its pixels are foreground, so the mean field has something to do
)
TEACHER = jax.tree.map(lambda x: 0.5 * x, PARAMS)
AUTOENCODER, AUTOENCODER_PARAMS = model(
    lambda rngs: MaskedAutoencoder(
        ENCODER,
        AutoencoderConfig(mask_ratio=0.5, dim=8, depth=1, heads=2),
        grid=SIZE // PATCH,
        rngs=rngs,
    )
)
OBJECTIVES = {
    "mil": mil_objective(GRAPH, stats=STATS),
    "exits": exits_objective(
        GRAPH, weights=WEIGHTS, crf=CRF, stats=STATS, pooling="bilinear"
    ),
    "box": box_objective(GRAPH, weights=WEIGHTS, crf=CRF, stats=STATS),
    "autoencoder": autoencoder_objective(AUTOENCODER, stats=STATS),
}
STEP = jnp.asarray(5, jnp.int32)


def _batch(*, padded: bool = False):
    """Two drawn crops, then the same again or two rows as the input pads them."""
    rng = np.random.default_rng(0)
    grid = SIZE // PATCH
    image = rng.integers(0, 256, (2, 1, 1, 3), np.uint8)
    image = np.tile(image, (1, SIZE, SIZE, 1))
    image[:, 8:24, 8:24] = rng.integers(0, 256, (2, 1, 1, 3))
    known = rng.random((2, grid, grid)) < 0.4
    target = known & (rng.random((2, grid, grid)) < 0.5)
    crops = {
        "image": image,
        "student_image": image[:, :, ::-1] // 2,
        "box": np.array([[4, 6, 26, 28]] * 2, np.float32),
        "box_area": np.full(2, 3000, np.float32),
        "seed": np.arange(2, dtype=np.uint32),
        "valid": np.ones(2, bool),
        "target": target.astype(np.float32),
        "known": known.astype(np.float32),
        "is_empty": np.array([False, True]),
    }
    more = crops
    if padded:
        more = {name: np.zeros_like(value) for name, value in crops.items()}
        more["box"] = np.array([[0, 0, SIZE, SIZE]] * 2, np.float32)
        more["box_area"] = np.full(2, SIZE**2, np.float32)
        more["is_empty"] = np.ones(2, bool)
    return {
        name: jnp.asarray(np.concatenate([crops[name], more[name]])) for name in crops
    }


def _params(name):
    return AUTOENCODER_PARAMS if name == "autoencoder" else PARAMS


@pytest.fixture(scope="module")
def graded():
    """Loss, metrics and gradient of an objective, compiled once per shape."""
    made = {
        name: jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
        for name, loss_fn in OBJECTIVES.items()
    }
    return lambda name, batch, step=STEP, teacher=TEACHER: made[name](
        _params(name), teacher, batch, step
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_and_gradients_are_finite(graded, name):
    (loss, metrics), grads = graded(name, _batch())
    assert np.isfinite(loss) and loss > 0 and metrics["loss/total"] == loss
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert any(np.any(g != 0) for g in jax.tree.leaves(grads))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_padding_rows_change_neither_loss_nor_gradient(graded, name):
    (plain, _), grads = graded(name, _batch())
    (padded, _), padded_grads = graded(name, _batch(padded=True))
    np.testing.assert_allclose(padded, plain, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6),
        padded_grads,
        grads,
    )


@pytest.mark.parametrize("name", ["exits", "box"])
def test_the_teacher_gets_no_gradient(name):
    of_teacher = jax.jit(jax.grad(OBJECTIVES[name], argnums=1, has_aux=True))
    grads, _ = of_teacher(PARAMS, TEACHER, _batch(), STEP)
    assert all(np.all(g == 0) for g in jax.tree.leaves(grads))


@pytest.mark.parametrize("name", ["exits", "box"])
def test_the_teacher_matters(graded, name):
    (_, one), _ = graded(name, _batch())
    (_, other), _ = graded(name, _batch(), teacher=PARAMS)
    assert abs(one["loss/crf"] - other["loss/crf"]) > 1e-4


def test_the_overall_loss_is_the_weighted_sum_of_eq_10(graded):
    (loss, parts), _ = graded("exits", _batch())
    ramp = 5 / 10
    expected = 0.5 * parts["loss/point"] + ramp * 0.5 * parts["loss/crf"]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("step, ramp", [(0, 0.0), (5, 0.5), (10, 1.0), (99, 1.0)])
def test_the_colour_loss_rises_over_its_ramp(graded, step, ramp):
    (_, metrics), _ = graded("exits", _batch(), jnp.asarray(step, jnp.int32))
    np.testing.assert_allclose(metrics["loss/crf_ramp"], ramp)


@pytest.mark.parametrize("step, rise", [(0, 0.0), (2, 0.5), (4, 1.0)])
def test_the_baseline_raises_both_of_its_losses(graded, step, rise):
    (loss, parts), _ = graded("box", _batch(), jnp.asarray(step, jnp.int32))
    expected = rise * 10 * parts["loss/mil"] + step / 10 * 0.5 * parts["loss/crf"]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_the_warm_up_reads_boxes_alone(graded):
    batch = _batch()
    spoiled = {name: jnp.ones_like(batch[name]) for name in ("target", "known")}
    spoiled["image"] = jnp.zeros_like(batch["image"])
    (loss, _), _ = graded("mil", batch | spoiled)
    np.testing.assert_array_equal(loss, graded("mil", batch)[0][0])


def test_pixels_are_normalised_as_the_encoder_was_trained():
    white = jnp.full((1, 1, 1, 3), 255, jnp.uint8)
    expected = (1 - np.array(STATS.mean)) / np.array(STATS.std)
    np.testing.assert_allclose(normalise(white, STATS)[0, 0, 0], expected, rtol=1e-6)


def test_the_mask_loss_joins_where_it_has_a_weight_and_an_object_has_clicks():
    weights = WEIGHTS._replace(mask=2.0, mask_exponent=0.7)
    loss_fn = exits_objective(
        GRAPH, weights=weights, crf=CRF, stats=STATS, pooling="bilinear"
    )
    batch = _batch() | {
        "soft_mask": jnp.full((4, 16, 16), 0.25),
        "is_labeled": jnp.array([True, False] * 2),
    }
    loss, found = loss_fn(PARAMS, TEACHER, batch, STEP)
    plain, _ = OBJECTIVES["exits"](PARAMS, TEACHER, batch, STEP)
    assert found["loss/mask"] > 0
    np.testing.assert_allclose(loss, plain + 2 * found["loss/mask"], rtol=1e-5)
    none = batch | {"is_labeled": jnp.zeros(4, bool)}
    assert loss_fn(PARAMS, TEACHER, none, STEP)[1]["loss/mask"] == 0
