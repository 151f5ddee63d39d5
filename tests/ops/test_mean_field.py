import os
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exits_jax.data.annotations import read_instances
from exits_jax.data.batches import label_batches
from exits_jax.data.extreme_points import points_of_record
from exits_jax.data.samples import CropOptions
from exits_jax.ops import mean_field as module
from exits_jax.ops.losses import box_mask
from exits_jax.ops.resize import resize_bilinear, resize_map
from exits_jax.train.objectives import ImageStats, normalise
from tests.support import reference

DATA = Path(os.environ.get("EXITS_DATA", "/nonexistent")) / "coco_mini"

mean_field = jax.jit(
    module.mean_field, static_argnames=("num_rounds", "colour_scale", "hard")
)


def scene(seed=0, size=6):
    """Two colours with a little noise, a noisy guess, and a box with soft edges."""
    rng = np.random.default_rng(seed)
    part = (np.arange(size)[None] + np.arange(size)[:, None]) >= size
    image = part[..., None] * np.array([1.0, -0.5, 0.25])
    image = image + rng.normal(scale=0.05, size=image.shape)
    probs = np.clip(0.2 + 0.6 * part + rng.normal(scale=0.2, size=part.shape), 0, 1)
    box = np.ones((size, size))
    box[0], box[1], box[:, 0] = 0, 0.5, 0.25
    as_batch = lambda x: jnp.asarray(x[None], jnp.float32)
    return as_batch(image), as_batch(probs), as_batch(box)


@pytest.mark.parametrize("num_rounds", [1, 20])
@pytest.mark.parametrize("seed", [0, 1])
def test_probabilities_match_the_reference(num_rounds, seed):
    image, probs, box = scene(seed)
    actual = mean_field(image, probs, box, num_rounds=num_rounds, hard=False)
    expected = reference.mean_field(image[0], probs[0], box[0], num_rounds)
    np.testing.assert_allclose(actual[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_mask_matches_the_reference(seed):
    image, probs, box = scene(seed)
    actual = mean_field(image, probs, box)
    expected = reference.mean_field(image[0], probs[0], box[0], 100) > 0.5
    np.testing.assert_array_equal(actual[0], expected)
    assert 0 < expected.sum() < expected.size


def test_another_colour_scale_matches_the_reference():
    image, probs, box = scene()
    actual = mean_field(image, probs, box, num_rounds=3, colour_scale=0.5, hard=False)
    expected = reference.mean_field(image[0], probs[0], box[0], 3, zeta=0.5)
    np.testing.assert_allclose(actual[0], expected, rtol=1e-4)


def test_gradient_of_the_probabilities_matches_finite_differences():
    # An undecided guess on varied colours: at the clamps the gradient is 0.
    rng = np.random.default_rng(5)
    image = jnp.asarray(rng.normal(scale=0.2, size=(1, 6, 6, 3)), jnp.float32)
    probs = jnp.asarray(rng.uniform(0.45, 0.65, (1, 6, 6)), jnp.float32)
    box = scene()[2]
    weights = rng.normal(size=(6, 6))
    soft = lambda p: mean_field(image, p, box, num_rounds=2, hard=False)
    gradient = jax.grad(lambda p: (soft(p)[0] * weights).sum())(probs)[0]
    exact = lambda p: (reference.mean_field(image[0], p, box[0], 2) * weights).sum()
    step, base = 1e-5, np.asarray(probs[0], np.float64)
    expected = np.zeros_like(base)
    for index in np.ndindex(*base.shape):
        up, down = base.copy(), base.copy()
        up[index] += step
        down[index] -= step
        expected[index] = (exact(up) - exact(down)) / (2 * step)
    np.testing.assert_allclose(gradient, expected, rtol=1e-2, atol=1e-4)
    assert np.abs(expected).max() > 0.01


def test_nothing_outside_the_box_becomes_foreground():
    image = jnp.zeros((1, 6, 6, 3))
    box = jnp.zeros((1, 6, 6)).at[:, 2:4, 2:4].set(1)
    refined = mean_field(image, jnp.ones((1, 6, 6)), box)
    assert not (refined.astype(bool) & (box == 0)).any()


def test_a_pixel_unlike_its_neighbours_keeps_its_verdict():
    image = jnp.zeros((1, 6, 6, 3)).at[:, 2, 2].set(5.0)
    probs = jnp.full((1, 6, 6), 0.2).at[:, 2, 2].set(0.8)
    refined = mean_field(image, probs, jnp.ones((1, 6, 6)))
    np.testing.assert_array_equal(refined, jnp.zeros((1, 6, 6)).at[:, 2, 2].set(1))


def test_an_outlier_in_a_uniform_region_is_outvoted():
    probs = jnp.full((1, 6, 6), 0.2).at[:, 2, 2].set(0.9)
    refined = mean_field(jnp.zeros((1, 6, 6, 3)), probs, jnp.ones((1, 6, 6)))
    np.testing.assert_array_equal(refined, 0)


def test_a_brighter_image_gives_the_same_mask():
    image, probs, box = scene()
    np.testing.assert_allclose(
        mean_field(image + 2, probs, box, num_rounds=5, hard=False),
        mean_field(image, probs, box, num_rounds=5, hard=False),
        rtol=1e-3,
    )


def test_crops_do_not_influence_each_other():
    first, second = scene(0), scene(1)
    both = mean_field(*(jnp.concatenate(pair) for pair in zip(first, second)))
    np.testing.assert_array_equal(both[0], mean_field(*first)[0])
    np.testing.assert_array_equal(both[1], mean_field(*second)[0])


def total(image, probs, box):
    return mean_field(image, probs, box, num_rounds=10, hard=False).sum()


gradients_of_total = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("boxed", [0.0, 1.0], ids=["empty box", "full box"])
def test_is_finite_with_finite_gradients_at_the_edges(value, boxed):
    image = jnp.zeros((1, 4, 4, 3)).at[:, 0].set(100.0)
    box, probs = jnp.full((1, 4, 4), boxed), jnp.full((1, 4, 4), value)
    result, gradients = gradients_of_total(image, probs, box)
    assert jnp.isfinite(result)
    assert all(jnp.isfinite(gradient).all() for gradient in gradients)


def test_the_mask_passes_no_gradient():
    image, probs, box = scene()
    gradient = jax.grad(lambda p: mean_field(image, p, box, num_rounds=2).sum())(probs)
    np.testing.assert_array_equal(gradient, 0)


def test_compiled_equals_eager_and_compiles_once():
    calls = []

    def traced(*args):
        calls.append(1)
        return mean_field(*args, num_rounds=5, hard=False)

    once = jax.jit(traced)
    actual = once(*scene(0))
    once(*scene(1))
    assert len(calls) == 1
    expected = module.mean_field(*scene(0), num_rounds=5, hard=False)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_box_values_below_any_vote_change_nothing():
    image, probs, _ = scene()
    soft = partial(mean_field, image, probs, num_rounds=5, hard=False)
    np.testing.assert_array_equal(
        soft(jnp.zeros((1, 6, 6))), soft(jnp.full((1, 6, 6), 1e-30))
    )


def two_products(image, probs, box, *, num_rounds, epsilon):
    """Eq. (9) as the baseline computes it, float64: both products, then the ratio."""
    image, box, x = (np.asarray(array, np.float64) for array in (image, box, probs))
    height, width = x.shape[1:]
    pad = lambda array: np.pad(array, ((0, 0), (1, 1), (1, 1)))
    views = [
        (slice(None), slice(dy, dy + height), slice(dx, dx + width))
        for dy in range(3)
        for dx in range(3)
    ]
    colours = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    exists = pad(np.ones_like(x))
    weights = [
        np.exp(-((image - colours[view]) ** 2).sum(axis=-1) / 0.02) * exists[view]
        for view in views
    ]
    product = lambda array: np.exp(
        sum(w * pad(np.log(array))[v] for w, v in zip(weights, views, strict=True))
    )
    x = np.clip(x * box, 0.1, 0.9)
    for _ in range(num_rounds):
        fg, bg = box * product(x), product(1 - x)
        x = np.clip(fg / (epsilon + bg + fg), 0.1, 0.9)
    return x > 0.5


@pytest.fixture(scope="module")
def crops():
    """Six objects of photographs, 512 px; where the data are, this is not skipped."""
    if not DATA.is_dir():
        pytest.skip("needs EXITS_DATA, a folder with coco_mini")
    rule = partial(points_of_record, mode="extremenet")
    path = DATA / "annotations" / "val.json"
    found = read_instances(path, DATA / "images", on_bad="skip", points_of=rule)
    large = [
        item
        for item in found.instances
        if not item.is_crowd
        and (item.box[2] - item.box[0]) * (item.box[3] - item.box[1]) > 96**2
    ]
    return next(iter(label_batches(large[::40], CropOptions(512), batch=6)))


def on_photographs(rows, *, size, count):
    """Colours and boxes of crops, and a guess of them that is hardly decided."""
    pixels = normalise(jnp.asarray(rows["image"][:count]), ImageStats())
    noise = np.random.default_rng(0).normal(size=(count, 32, 32)).astype(np.float32)
    logits = 0.5 * resize_map(jnp.asarray(noise), size, size)
    box = box_mask(jnp.asarray(rows["box"][:count]), crop_size=512, mask_size=size)
    return resize_bilinear(pixels, size, size), jax.nn.sigmoid(logits), box


@pytest.mark.parametrize("num_rounds", [20, 100])
@pytest.mark.parametrize("size, count", [(128, 6), (512, 1)])
def test_on_photographs_one_sum_gives_the_mask_of_two_products(
    crops, size, count, num_rounds
):
    scene = on_photographs(crops, size=size, count=count)
    actual = np.asarray(mean_field(*scene, num_rounds=num_rounds)) > 0
    same = two_products(*scene, num_rounds=num_rounds, epsilon=0.0)
    assert (actual != same).mean() <= 1e-5
    baseline = two_products(*scene, num_rounds=num_rounds, epsilon=1e-6)
    assert (actual != baseline).mean() <= 2e-3  # 3e-5 for true masks, blurred
    assert 0.1 < actual.mean() < 0.9


def test_on_a_photograph_the_mask_matches_the_reference(crops):
    image, probs, box = on_photographs(crops, size=32, count=1)
    actual = mean_field(image, probs, box, num_rounds=20)[0]
    expected = reference.mean_field(image[0], probs[0], box[0], 20) > 0.5
    np.testing.assert_array_equal(actual, expected)
    assert 0 < expected.sum() < expected.size


def test_the_normaliser_left_out_needs_a_window_that_is_almost_a_tie():
    # In a plain image the most that 1e-6 can do is to ask for 0.051 more log-odds.
    image, box = jnp.zeros((1, 9, 9, 3)), jnp.ones((1, 9, 9))
    rng = np.random.default_rng(0)
    probs = jnp.asarray(rng.choice([0.1, 0.9], (1, 9, 9)), jnp.float32)
    probs = probs.at[:, 4, 4].set(0.52)  # decides nothing but ties
    actual = np.asarray(mean_field(image, probs, box, num_rounds=1)) > 0
    baseline = two_products(image, probs, box, num_rounds=1, epsilon=1e-6)
    log_odds = np.log(probs) - np.log1p(-probs)
    padded = np.pad(log_odds, ((0, 0), (1, 1), (1, 1)))
    votes = sum(
        padded[:, dy : dy + 9, dx : dx + 9] for dy in range(3) for dx in range(3)
    )
    np.testing.assert_array_equal(actual != baseline, (votes > 0) & (votes < 0.051))
