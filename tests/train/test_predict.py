from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exits_jax.train.predict import (
    DenseCrf,
    fused_logits,
    refined_logits,
    walk_logits,
)

SIZE = 32
CRF = DenseCrf(
    grid=8,
    num_rounds=3,
    colour_weight=3.0,
    position_scale=0.2,
    colour_scale=5.0,
    smooth_weight=1.0,
    smooth_scale=0.05,
)
CLICKS = [(12.0, 4.0), (4.0, 20.0), (20.0, 28.0), (28.0, 12.0)]


@pytest.fixture
def batch():
    """Two crops, bright on the left; the second is annotated by a box alone."""
    image = np.full((2, SIZE, SIZE, 3), 40, np.uint8)
    image[:, :, : SIZE // 2] = 220
    return {
        "image": jnp.asarray(image),
        "extreme_points": jnp.array([CLICKS, np.zeros((4, 2))], jnp.float32),
        "has_points": jnp.array([True, False]),
        "box": jnp.array([[4.0, 4.0, 28.0, 28.0]] * 2),
        "valid_region": jnp.array([[0.0, 0.0, SIZE, SIZE]] * 2),
    }


def drawn(side, seed=0):
    values = np.random.default_rng(seed).normal(size=(2, side, side))
    return jnp.asarray(values, jnp.float32)


refine = partial(refined_logits, click_depth=0.2, cut=0.5)


def test_two_sources_add_their_logits():
    logits, of_walk = drawn(4), drawn(4, 1)
    fused = fused_logits(logits, of_walk, walk_weight=0.5)
    np.testing.assert_allclose(fused, logits + 0.5 * of_walk, rtol=1e-5)


def test_the_walk_is_brought_to_the_grid_of_the_generator_and_bounded():
    fused = fused_logits(
        jnp.zeros((2, 8, 8)), jnp.full((2, 4, 4), 9.0), walk_weight=2.0
    )
    np.testing.assert_allclose(fused, 2 * np.log(49), rtol=1e-5)


def test_the_walk_is_never_surer_than_its_bound():
    sure = walk_logits(jnp.array([[[0.0, 1.0], [0.0, 1.0]]]))
    np.testing.assert_allclose(sure[0, 0], [-np.log(49), np.log(49)], rtol=1e-4)


@pytest.mark.parametrize("crf", [None, CRF])
@pytest.mark.parametrize("cut", [0.1, 0.5, 0.95])
def test_clicks_are_in_the_mask_whatever_the_logits_say(batch, crf, cut):
    logits = jnp.full((2, 8, 8), -9.0)
    found = refined_logits(logits, batch, crf=crf, click_depth=0.2, cut=cut)
    mask = np.asarray(jax.nn.sigmoid(found) > cut)
    for x, y in CLICKS:
        assert mask[0, int(min(y, 27.9) / 4), int(min(x, 27.9) / 4)]
    assert not mask[1].any()


def test_without_a_crf_nothing_else_changes(batch):
    logits = drawn(16)
    found = refine(logits, batch, crf=None)
    np.testing.assert_allclose(found[1], logits[1], atol=1e-4)
    changed = np.abs(found[0] - logits[0]) > 1e-3
    assert 0 < changed.mean() < 0.2 and (found[0] > logits[0])[changed].all()


def test_the_crf_moves_a_mask_to_the_edge_of_a_colour(batch):
    logits = jnp.full((2, 8, 8), -0.4).at[:, :, :3].set(2.0)  # 4 columns are bright
    found = refine(logits, batch, crf=CRF)
    mask = np.asarray(found[1] > 0)
    assert mask[3:5, 1:4].all()  # the fourth column was not taken for object before
    assert not mask[:, 4:].any()


def test_a_row_does_not_depend_on_its_batch(batch):
    logits = drawn(8)
    both = refine(logits, batch, crf=CRF)
    first = jax.tree.map(lambda x: x[:1], batch)
    np.testing.assert_allclose(
        refine(logits[:1], first, crf=CRF)[0], both[0], rtol=1e-5, atol=1e-5
    )
