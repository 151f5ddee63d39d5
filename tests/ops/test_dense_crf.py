import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exits_jax.ops.dense_crf import dense_mean_field, lab, lab_of_nodes
from tests.support import reference

SIDE = 6
OPTIONS = {
    "num_rounds": 4,
    "colour_weight": 1.0,
    "position_scale": 0.2,
    "colour_scale": 12.0,
    "smooth_weight": 0.5,
    "smooth_scale": 0.1,
}


def drawn(seed=0, side=SIDE):
    """Lab colours of two halves, a probability and a box."""
    rng = np.random.default_rng(seed)
    colours = np.where(np.arange(side)[None, :, None] < side // 2, 30.0, 70.0)
    colours = colours + rng.normal(scale=5, size=(side, side, 3))
    inside = np.zeros((side, side), np.float32)
    inside[1:, :-1] = 1
    probability = rng.uniform(size=(side, side)).astype(np.float32)
    return colours.astype(np.float32), probability, inside


def refined(colours, probability, inside, **options):
    rows = (jnp.asarray(x)[None] for x in (colours, probability, inside))
    return np.asarray(dense_mean_field(*rows, **(OPTIONS | options))[0])


@settings(max_examples=15)
@given(
    seed=st.integers(0, 1000),
    num_rounds=st.integers(0, 5),
    colour_weight=st.sampled_from([0.0, 1.0, 4.0]),
    smooth_weight=st.sampled_from([0.0, 0.5]),
)
def test_matches_all_pairs_in_turn(seed, num_rounds, colour_weight, smooth_weight):
    options = OPTIONS | {
        "num_rounds": num_rounds,
        "colour_weight": colour_weight,
        "smooth_weight": smooth_weight,
    }
    data = drawn(seed)
    expected = reference.dense_crf(*data, **options)
    actual = refined(*data, **options)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_a_node_follows_those_of_its_colour():
    colours, _, _ = drawn()
    probability = np.full((SIDE, SIDE), 0.2, np.float32)
    probability[:, : SIDE // 2] = 0.9
    probability[3, 1] = 0.4
    found = refined(colours, probability, np.ones_like(probability), colour_weight=4.0)
    assert found[3, 1] > 0.9 and found[3, 4] < 0.1


def test_nothing_is_found_outside():
    colours, probability, inside = drawn()
    found = refined(colours, probability, inside)
    np.testing.assert_array_equal(found[inside == 0], 0)


def test_probabilities_of_0_and_1_stay_finite():
    colours, probability, inside = drawn()
    found = refined(colours, np.round(probability), inside)
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found <= 1)).all()


def test_one_colour_alone_is_finite():
    _, probability, inside = drawn()
    assert np.isfinite(refined(np.zeros((SIDE, SIDE, 3)), probability, inside)).all()


def test_an_image_does_not_depend_on_those_beside_it():
    rows = [drawn(seed) for seed in range(3)]
    columns = (jnp.asarray(np.stack(column)) for column in zip(*rows, strict=True))
    together = dense_mean_field(*columns, **OPTIONS)
    for found, row in zip(together, rows, strict=True):
        np.testing.assert_allclose(found, refined(*row), rtol=1e-5, atol=1e-6)


def test_other_images_are_not_compiled_again():
    traces = []

    def traced(*data):
        traces.append(1)
        return dense_mean_field(*data, **OPTIONS)

    once = jax.jit(traced)
    for seed in range(2):
        data = drawn(seed)
        found = once(*(jnp.asarray(x)[None] for x in data))[0]
        np.testing.assert_allclose(found, refined(*data), rtol=1e-5, atol=1e-6)
    assert len(traces) == 1


def test_lab_is_that_of_opencv():
    rng = np.random.default_rng(0)
    rgb = rng.uniform(size=(32, 32, 3)).astype(np.float32)
    rgb[0] = rng.uniform(0, 0.04, (32, 3))  # the straight part
    rgb[1, :2] = ((0.0,) * 3, (1.0,) * 3)
    exact = rgb.astype(np.float64)
    linear = np.where(exact > 0.04045, ((exact + 0.055) / 1.055) ** 2.4, exact / 12.92)
    expected = cv2.cvtColor(linear.astype(np.float32), cv2.COLOR_LRGB2LAB)
    found = lab(jnp.asarray(rgb))
    np.testing.assert_allclose(found, expected, atol=0.05)
    # OpenCV interpolates a coarse table where it has to undo the curve of sRGB itself.
    rough = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    np.testing.assert_allclose(found, rough, atol=0.5)


def test_white_and_black_have_no_hue():
    found = lab(jnp.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
    np.testing.assert_allclose(found, [[0, 0, 0], [100, 0, 0]], atol=1e-2)


@pytest.mark.parametrize("side", [8, 12])
def test_a_node_has_the_colour_of_its_part_of_the_image(side):
    image = np.zeros((1, 32, 32, 3), np.float32)
    image[:, :16, :, 0] = image[:, 16:, :, 2] = 0.8
    found = lab_of_nodes(jnp.asarray(image), side)
    red, blue = lab(jnp.array([[0.8, 0.0, 0.0], [0.0, 0.0, 0.8]]))
    inner = lambda rows: np.asarray(found[0, rows])
    np.testing.assert_allclose(inner(0), np.tile(red, (side, 1)), atol=1e-3)
    np.testing.assert_allclose(inner(side - 1), np.tile(blue, (side, 1)), atol=1e-3)
