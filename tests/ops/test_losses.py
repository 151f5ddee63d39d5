import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exits_jax.ops.losses import (
    box_mask,
    crf_loss,
    dice_loss,
    grid_probs,
    mil_loss,
    point_loss,
    robust_loss,
)
from tests.support import reference

few = settings(deadline=None, max_examples=20)
unit = st.floats(0, 1, width=32)
masks = hnp.arrays(np.float32, (2, 8, 8), elements=unit)
binary = hnp.arrays(np.float32, (2, 8, 8), elements=st.sampled_from([0.0, 1.0]))


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random(shape), jnp.float32)


@few
@given(probs=masks, target=binary)
def test_dice_matches_the_reference_crop_by_crop(probs, target):
    actual = dice_loss(jnp.asarray(probs), jnp.asarray(target))
    expected = [reference.dice(p, t) for p, t in zip(probs, target, strict=True)]
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@few
@given(mask=binary)
def test_dice_of_a_mask_with_itself_is_nearly_zero(mask):
    loss = dice_loss(jnp.asarray(mask), jnp.asarray(mask))
    filled = mask.any(axis=(1, 2))
    np.testing.assert_allclose(loss[filled], 0, atol=1e-3)
    np.testing.assert_array_equal(loss[~filled], 1)


@few
@given(probs=masks, target=masks)
def test_dice_lies_between_zero_and_one(probs, target):
    loss = dice_loss(jnp.asarray(probs), jnp.asarray(target))
    assert (loss >= -1e-6).all() and (loss <= 1).all()


@few
@given(probs=masks, box=binary)
def test_mil_matches_the_reference(probs, box):
    actual = mil_loss(jnp.asarray(probs), jnp.asarray(box))
    expected = [reference.mil(p, b) for p, b in zip(probs, box, strict=True)]
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_mil_asks_for_a_tight_mask_not_a_full_one():
    box = jnp.zeros((1, 8, 8)).at[:, 2:6, 1:7].set(1)
    cross = jnp.zeros((1, 8, 8)).at[:, 2:6, 3].set(1).at[:, 4, 1:7].set(1)
    np.testing.assert_allclose(mil_loss(cross, box), 0, atol=1e-3)
    assert mil_loss(cross.at[:, 0, 3].set(1), box)[0] > 0.05


@pytest.mark.parametrize("pooling", ["bilinear", "area"])
def test_point_loss_matches_the_reference_and_falls_back_per_crop(pooling):
    probs = random(3, 16, 16)
    target = (random(3, 4, 4, seed=1) > 0.6).astype(jnp.float32)
    known = jnp.maximum(target, (random(3, 4, 4, seed=2) > 0.5).astype(jnp.float32))
    box = (random(3, 16, 16, seed=3) > 0.5).astype(jnp.float32)
    is_empty = jnp.array([False, True, False])
    actual = point_loss(
        probs, target, known, is_empty, box, mil_weight=10.0, pooling=pooling
    )
    expected = [
        reference.point_loss(
            np.asarray(probs[i], np.float64),
            np.asarray(target[i]),
            np.asarray(known[i]),
            bool(is_empty[i]),
            np.asarray(box[i]),
            10,
            pooling,
        )
        for i in range(3)
    ]
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_point_loss_ignores_what_is_not_known():
    target = jnp.zeros((1, 4, 4)).at[0, 1, 1].set(1)
    known = target.at[0, 3, 3].set(1)
    loss = lambda probs: point_loss(
        probs, target, known, jnp.array([False]), jnp.ones((1, 8, 8)), mil_weight=10.0
    )[0]
    gradient = jax.grad(loss)(random(1, 8, 8))[0]
    used = np.zeros((8, 8), bool)
    used[2:4, 2:4] = used[6:8, 6:8] = True
    np.testing.assert_array_equal(gradient[~used], 0)
    assert (gradient[2:4, 2:4] < 0).all() and (gradient[6:8, 6:8] > 0).all()


def test_crf_loss_is_dice_against_the_refined_mask():
    probs, refined = random(2, 8, 8), (random(2, 8, 8, seed=1) > 0.5) * 1.0
    expected = [reference.dice(probs[i], refined[i]) for i in range(2)]
    np.testing.assert_allclose(crf_loss(probs, refined), expected, rtol=1e-5)


def test_bilinear_pooling_reads_the_centre_and_area_pooling_the_whole_cell():
    probs = jnp.zeros((1, 16, 16)).at[0, 0, 0].set(1).at[0, 5, 5].set(1)
    bilinear = grid_probs(probs, 4, pooling="bilinear")[0]
    area = grid_probs(probs, 4, pooling="area")[0]
    assert bilinear[0, 0] == 0 and bilinear[1, 1] == 0.25
    assert area[0, 0] == 1 / 16 and area[1, 1] == 1 / 16


def test_rejects_an_unknown_pooling():
    with pytest.raises(ValueError, match="Unknown pooling 'max'; known: bilinear"):
        grid_probs(jnp.zeros((1, 8, 8)), 4, pooling="max")


edges = st.floats(-8, 40, width=32)


@few
@given(x0=edges, y0=edges, x1=edges, y1=edges)
def test_box_mask_matches_a_rectangle_that_is_drawn_and_shrunk(x0, y0, x1, y1):
    box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    actual = box_mask(jnp.array([box]), crop_size=32, mask_size=8)
    np.testing.assert_allclose(actual[0], reference.box_mask(box, 32, 8), atol=1e-6)


def test_edges_of_a_box_mask_are_fractional():
    # Mask pixel i averages crop pixels 4i + 1 and 4i + 2 on each axis.
    mask = box_mask(jnp.array([[2.0, 0.0, 32.0, 30.0]]), crop_size=32, mask_size=8)[0]
    assert mask[0, 0] == 0.5 and mask[0, 1] == 1
    assert mask[7, 1] == 0.5 and mask[7, 0] == 0.25


def test_box_mask_needs_no_shrinking_at_the_size_of_the_crop():
    box = (2.5, 1.0, 6.4, 7.0)
    mask = box_mask(jnp.array([box]), crop_size=8, mask_size=8)
    np.testing.assert_array_equal(mask[0], reference.box_mask(box, 8, 8))


def total_loss(probs, target, known, box, is_empty):
    points = point_loss(probs, target, known, is_empty, box, mil_weight=10.0)
    return (points + crf_loss(probs, box)).sum()


loss_and_gradient = jax.jit(jax.value_and_grad(total_loss))


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("filled", [False, True], ids=["all dropped", "all known"])
@pytest.mark.parametrize("boxed", [False, True], ids=["empty box", "full box"])
def test_gradients_are_finite_at_the_edges(value, filled, boxed):
    probs = jnp.full((2, 8, 8), value)
    grid = jnp.full((2, 4, 4), float(filled))
    box = jnp.full((2, 8, 8), float(boxed))
    loss, gradient = loss_and_gradient(probs, grid, grid, box, jnp.array([True, False]))
    assert jnp.isfinite(loss) and jnp.isfinite(gradient).all()


def test_saturated_logits_have_finite_gradients():
    logits = jnp.array([-200.0, 200.0])[:, None, None] * jnp.ones((2, 8, 8))
    grid, box = jnp.ones((2, 4, 4)), jnp.ones((2, 8, 8))
    loss = lambda x: total_loss(jax.nn.sigmoid(x), grid, grid, box, jnp.ones(2, bool))
    assert jnp.isfinite(jax.grad(loss)(logits)).all()


def test_compiled_equals_eager_and_compiles_once():
    calls = []

    def traced(*args):
        calls.append(1)
        return total_loss(*args)

    args = (
        random(2, 8, 8),
        random(2, 4, 4),
        random(2, 4, 4),
        random(2, 8, 8),
        jnp.array([True, False]),
    )
    once = jax.jit(traced)
    actual = once(*args)
    once(args[0] + 0.1, *args[1:4], ~args[4])
    assert len(calls) == 1
    np.testing.assert_allclose(actual, total_loss(*args), rtol=1e-6)


@few
@given(probs=masks, target=masks, exponent=st.sampled_from([0.1, 0.5, 1.0]))
def test_the_robust_loss_is_that_of_each_pixel_by_hand(probs, target, exponent):
    cost = lambda p: (1 - max(p, 1e-6) ** exponent) / exponent
    expected = [
        np.mean([t * cost(p) + (1 - t) * cost(1 - p) for p, t in zip(ps, ts)])
        for ps, ts in zip(
            probs.reshape(2, -1).astype(float), target.reshape(2, -1).astype(float)
        )
    ]
    actual = robust_loss(jnp.asarray(probs), jnp.asarray(target), exponent=exponent)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_the_robust_loss_lies_between_cross_entropy_and_absolute_error():
    probs, target = random(1, 8, 8), jnp.round(random(1, 8, 8, seed=1))
    own = jnp.where(target > 0, probs, 1 - probs)
    nearly = robust_loss(probs, target, exponent=1e-3)
    np.testing.assert_allclose(nearly, -jnp.log(own).mean(), rtol=5e-3)
    at_one = robust_loss(probs, target, exponent=1.0)
    np.testing.assert_allclose(at_one, jnp.abs(probs - target).mean(), rtol=1e-5)


def test_a_label_that_all_speaks_against_pulls_less_than_by_cross_entropy():
    pull = lambda q: jax.grad(
        lambda p: robust_loss(p, jnp.ones((1, 1, 1)), exponent=q).sum()
    )(jnp.full((1, 1, 1), 0.01))
    assert abs(pull(0.7)) < 0.05 * abs(pull(1e-3))
