from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from exits_jax.data import augment
from exits_jax.models.generator import PseudoLabelGenerator
from exits_jax.models.mask_decoder import DecoderConfig
from exits_jax.models.params import bind
from exits_jax.models.prompt import PromptConfig
from exits_jax.models.vit import VitConfig
from exits_jax.ops.clicks import polygon_depth
from exits_jax.ops.resize import resize_map
from exits_jax.train.objectives import (
    CrfOptions,
    ImageStats,
    Weights,
    box_objective,
    exits_objective,
    mil_objective,
)
from exits_jax.train.prompts import NO_NOISE, PromptNoise, batch_prompts, mirror_batch
from exits_jax.train.sharding import make_mesh, shard_batch, shardings
from exits_jax.train.step import predict_step
from tests.support.toy import model

SIZE, PATCH, ROWS = 32, 8, 8
GRID = SIZE // PATCH
ENCODER = VitConfig(
    dim=8, depth=1, heads=2, patch_size=PATCH, position_grid=GRID, class_token=False
)
STATS = ImageStats()
WEIGHTS = Weights(mil=1.0, point=1.0, crf=0.5, crf_ramp_steps=0)


def _build(prompt):
    return lambda rngs: PseudoLabelGenerator(
        ENCODER, DecoderConfig(features=4), prompt=prompt, rngs=rngs
    )


GRAPH, PARAMS = model(_build(PromptConfig()))
STEP = jnp.zeros((), jnp.int32)


def _batch(rows=ROWS, *, seed=0):
    """Crops of noise; what is to be found is where the clicks' quadrilateral is."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (rows, SIZE, SIZE, 3), np.uint8)
    low, high = rng.integers(2, 8, (rows, 2)), rng.integers(24, 30, (rows, 2))
    box = np.concatenate([low, high], axis=1).astype(np.float32)
    x0, y0, x1, y1 = box.T
    along = lambda a, b: a + rng.uniform(0.1, 0.9, rows) * (b - a)
    sides = ((along(x0, x1), y0), (x0, along(y0, y1)))
    sides += ((along(x0, x1), y1), (x1, along(y0, y1)))
    points = np.stack([np.stack(side, axis=1) for side in sides], axis=1)
    points = points.astype(np.float32)
    depth = polygon_depth(
        jnp.asarray(points), jnp.asarray(box), crop_size=SIZE, grid=GRID
    )
    made = {
        "image": image,
        "student_image": image // 2,
        "extreme_points": points,
        "has_points": np.ones(rows, bool),
        "box": box,
        "valid_region": np.array([[0, 0, SIZE, SIZE]] * rows, np.float32),
        "box_area": np.full(rows, 3000, np.float32),
        "seed": np.arange(rows, dtype=np.uint32),
        "valid": np.ones(rows, bool),
        "walk": rng.random((rows, GRID, GRID)).astype(np.float32),
        "target": np.asarray(depth > 0, np.float32),
        "known": np.ones((rows, GRID, GRID), np.float32),
        "is_empty": np.zeros(rows, bool),
    }
    return {name: jnp.asarray(value) for name, value in made.items()}


def test_a_batch_is_mirrored_as_its_samples_are():
    batch = _batch()
    without = {"has_points": False, "extreme_points": 0}
    batch |= {name: batch[name].at[2].set(none) for name, none in without.items()}
    rows = [
        {name: np.asarray(value[row]) for name, value in batch.items()}
        for row in range(ROWS)
    ]
    flipped = [augment.flip_sample(row) for row in rows]
    mirrored = mirror_batch(batch)
    for name in ("image", "student_image", "extreme_points", "box", "valid_region"):
        expected = np.stack([row[name] for row in flipped])
        np.testing.assert_allclose(mirrored[name], expected, rtol=1e-6, err_msg=name)


def test_a_batch_mirrored_twice_is_itself():
    batch = _batch()
    for name, value in mirror_batch(mirror_batch(batch)).items():
        np.testing.assert_allclose(value, batch[name], rtol=1e-6, err_msg=name)


def test_prompts_of_a_mirrored_batch_are_the_mirrored_prompts():
    prompts = jax.jit(lambda batch: batch_prompts(bind(GRAPH, PARAMS), batch))
    plain, mirrored = prompts(_batch()), prompts(mirror_batch(_batch()))
    swapped = plain[:, :, ::-1][..., jnp.array([0, 3, 2, 1, 4, 5, 6])]
    np.testing.assert_allclose(mirrored, swapped, atol=1e-5)


def _predict(batch, *, flip):
    call = partial(predict_step, GRAPH, stats=STATS, flip=flip)
    return np.asarray(jax.jit(call)(PARAMS, batch))


def test_the_mirror_image_is_averaged_with_its_mirrored_prompts():
    batch = _batch()
    plain = _predict(batch, flip=False)
    other = _predict(mirror_batch(batch), flip=False)[:, :, ::-1]
    averaged = _predict(batch, flip=True)
    np.testing.assert_allclose(averaged, (plain + other) / 2, rtol=1e-4, atol=1e-4)
    mirrored = _predict(mirror_batch(batch), flip=True)
    np.testing.assert_allclose(mirrored[:, :, ::-1], averaged, rtol=1e-4, atol=1e-4)


def test_labelling_needs_no_seed_and_no_label():
    batch = _batch()
    needed = ("image", "box_area", "extreme_points", "has_points", "box")
    needed += ("valid_region", "walk")
    rows = {name: batch[name] for name in needed}
    np.testing.assert_array_equal(
        _predict(rows, flip=False), _predict(batch, flip=False)
    )


@pytest.mark.parametrize("lacking", ["walk", "extreme_points"])
def test_a_batch_without_what_prompts_are_made_from_is_refused(lacking):
    batch = _batch()
    del batch[lacking]
    with pytest.raises(ValueError, match=f"but the batch has no {lacking}"):
        _predict(batch, flip=False)


def test_a_generator_that_does_not_see_the_walk_needs_none():
    graph, params = model(_build(PromptConfig(walk=False)))
    batch = _batch()
    call = jax.jit(partial(predict_step, graph, stats=STATS, flip=False))
    with_walk = call(params, batch)
    del batch["walk"]
    np.testing.assert_array_equal(call(params, batch), with_walk)


def _objective(make, graph=GRAPH, noise=NO_NOISE, **more):
    return make(
        graph, weights=WEIGHTS, crf=CrfOptions(2), stats=STATS, noise=noise, **more
    )


exits = partial(exits_objective, pooling="bilinear")


def test_the_teacher_sees_what_the_student_was_made_to_forget():
    loss_fn = _objective(exits, noise=PromptNoise(dropout=1.0))
    loss = jax.jit(loss_fn)
    batch = _batch()
    _, parts = loss(PARAMS, PARAMS, batch, STEP)
    moved = {"extreme_points": batch["extreme_points"] * 0.8}
    _, other = loss(PARAMS, PARAMS, batch | moved, STEP)
    np.testing.assert_array_equal(parts["loss/point"], other["loss/point"])
    assert abs(parts["loss/crf"] - other["loss/crf"]) > 1e-5


@pytest.mark.parametrize("noise", [PromptNoise(jitter=0.1), PromptNoise(dropout=0.5)])
def test_the_students_prompts_are_spoiled_by_the_seed_of_each_crop(noise):
    look = jax.jit(lambda batch: batch_prompts(bind(GRAPH, PARAMS), batch, noise=noise))
    batch = _batch()
    spoiled = np.asarray(look(batch))
    plain = np.asarray(batch_prompts(bind(GRAPH, PARAMS), batch))
    assert (spoiled != plain).any(axis=(1, 2, 3)).any()
    order = np.arange(ROWS)[::-1]
    again = look({name: value[order] for name, value in batch.items()})
    np.testing.assert_array_equal(again, spoiled[order])
    other = look(batch | {"seed": batch["seed"] + 100})
    assert np.any(other != spoiled)


@pytest.mark.parametrize("make", [exits, box_objective], ids=["exits", "box"])
def test_methods_learn_with_prompts(make):
    loss = jax.jit(jax.grad(_objective(make), has_aux=True))
    grads, metrics = loss(PARAMS, PARAMS, _batch(), STEP)
    assert np.isfinite(metrics["loss/total"])
    for leaf in jax.tree.leaves(grads["prompt"]):
        assert np.isfinite(leaf).all() and np.any(leaf != 0)


def test_the_devices_that_share_a_batch_change_no_number():
    loss = jax.jit(
        jax.grad(_objective(exits, noise=PromptNoise(0.05, 0.3)), has_aux=True)
    )
    grads, metrics = loss(PARAMS, PARAMS, _batch(), STEP)
    mesh = make_mesh(fsdp=2)
    params = jax.device_put(PARAMS, shardings(mesh, PARAMS))
    rows = {name: np.asarray(value) for name, value in _batch().items()}
    with jax.set_mesh(mesh):
        shared, said = loss(params, params, shard_batch(mesh, rows), STEP)
    np.testing.assert_allclose(said["loss/total"], metrics["loss/total"], rtol=1e-4)
    close = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(close, jax.device_get(shared["prompt"]), grads["prompt"])


def test_the_warm_up_goes_without_prompts():
    batch = _batch()
    del batch["walk"], batch["extreme_points"]
    loss = jax.jit(jax.grad(mil_objective(GRAPH, stats=STATS), has_aux=True))
    grads, _ = loss(PARAMS, None, batch, STEP)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(grads["prompt"]))


def _trained(prompt, *, num_steps=60):
    """Patches found in crops that were not trained on, and those to be found."""
    graph, params = model(_build(prompt))
    if prompt is not None:
        params["prompt"] = jax.tree.map(jnp.zeros_like, params["prompt"])
    loss_fn = _objective(
        exits, graph, PromptNoise(jitter=0.02, dropout=0.1) if prompt else NO_NOISE
    )
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params, state, batch):
        grads, metrics = jax.grad(loss_fn, has_aux=True)(params, params, batch, STEP)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, metrics

    state = optimizer.init(params)
    for number in range(num_steps):
        params, state, _ = step(params, state, _batch(32, seed=number))
    batch = _batch(64, seed=1000)
    call = jax.jit(partial(predict_step, graph, stats=STATS, flip=False))
    return resize_map(call(params, batch), GRID, GRID) > 0, batch["target"] > 0


def test_where_pixels_are_noise_the_clicks_are_learnt_from():
    agreement = {}
    for prompt in (None, PromptConfig(walk=False)):
        found, target = _trained(prompt)
        union = np.maximum((found | target).sum(axis=(1, 2)), 1)
        agreement[prompt] = ((found & target).sum(axis=(1, 2)) / union).mean()
    without, with_them = agreement.values()
    assert with_them > without + 0.1
