import colorsys

import numpy as np
import pytest

from exits_jax.data import augment
from exits_jax.data.augment import (
    NO_CHANGES,
    Photometric,
    apply_changes,
    change_arrays,
    draw_changes,
    flip_sample,
)

ALWAYS = Photometric(jitter_rate=1.0, grey_rate=0.0, blur_rate=0.0)


def picture(side=24):
    return np.random.default_rng(3).integers(0, 256, (side, side, 3), np.uint8)


def photometric(image, rng, options):
    return apply_changes(image, draw_changes(rng, options))


def sample(has_points=True):
    points = [[10, 2], [3, 9], [12, 20], [21, 8]] if has_points else np.zeros((4, 2))
    return {
        "image": picture(),
        "student_image": picture()[::-1].copy(),
        "extreme_points": np.array(points, np.float32),
        "has_points": np.bool_(has_points),
        "box": np.array([3, 2, 22, 21], np.float32),
        "valid_region": np.array([0, 0, 23, 24], np.float32),
        "index": np.int32(5),
    }


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


def grey_of(image):
    return image @ np.array([0.299, 0.587, 0.114])


@pytest.mark.parametrize("has_points", [True, False])
def test_flip_is_an_involution(has_points):
    before = sample(has_points)
    assert_same(flip_sample(flip_sample(before)), before)


def test_flip_leaves_its_input_alone():
    before = sample()
    flip_sample(before)
    assert_same(before, sample())


def test_flip_mirrors_both_views_and_the_geometry():
    before = sample()
    after = flip_sample(before)
    np.testing.assert_array_equal(after["image"], before["image"][:, ::-1])
    np.testing.assert_array_equal(
        after["student_image"], before["student_image"][:, ::-1]
    )
    np.testing.assert_array_equal(after["box"], [2, 2, 21, 21])
    np.testing.assert_array_equal(after["valid_region"], [1, 0, 24, 24])


def test_flip_keeps_the_order_top_left_bottom_right():
    top, left, bottom, right = flip_sample(sample())["extreme_points"]
    np.testing.assert_array_equal(top, [14, 2])
    np.testing.assert_array_equal(left, [3, 8])
    np.testing.assert_array_equal(bottom, [12, 20])
    np.testing.assert_array_equal(right, [21, 9])


def test_absent_points_stay_zeros_under_a_flip():
    assert not flip_sample(sample(has_points=False))["extreme_points"].any()


def test_empty_ranges_give_the_identical_image():
    still = Photometric(1.0, 0, 0, 0, 0, grey_rate=0, blur_rate=1, blur_sigma=(0, 0))
    for seed in range(8):
        actual = photometric(picture(), np.random.default_rng(seed), still)
        np.testing.assert_array_equal(actual, picture())


def test_strength_zero_gives_the_identical_image():
    rng = np.random.default_rng(0)
    for _ in range(16):
        actual = photometric(picture(), rng, Photometric(strength=0))
        np.testing.assert_array_equal(actual, picture())


@pytest.mark.parametrize(
    "change",
    [augment._brightness, augment._contrast, augment._saturation, augment._hue],
)
def test_a_change_by_nothing_is_exact(change):
    np.testing.assert_array_equal(change(picture(), 0.0), picture())


def test_the_input_is_never_written_to():
    image = picture()
    image.flags.writeable = False
    rng = np.random.default_rng(0)
    for _ in range(16):
        photometric(image, rng, Photometric(strength=2.0))
    np.testing.assert_array_equal(image, picture())


def test_same_generator_gives_same_image():
    first = photometric(picture(), np.random.default_rng(5), ALWAYS)
    second = photometric(picture(), np.random.default_rng(5), ALWAYS)
    np.testing.assert_array_equal(first, second)
    assert (first != picture()).any()


def test_brightness_multiplies():
    actual = augment._brightness(picture(), 0.4)
    np.testing.assert_allclose(actual, np.clip(picture() * 1.4, 0, 255), atol=0.51)


def test_contrast_keeps_the_mean_grey_fixed():
    image = picture() // 2 + 64  # far from clipping
    mean = grey_of(image).mean()
    actual = augment._contrast(image, -0.4)
    np.testing.assert_allclose(actual, 0.6 * image + 0.4 * mean, atol=0.51)


def test_saturation_moves_towards_the_grey_of_each_pixel():
    actual = augment._saturation(picture(), -0.2)
    expected = 0.8 * picture() + 0.2 * grey_of(picture())[..., None]
    np.testing.assert_allclose(actual, expected, atol=1.0)


@pytest.mark.parametrize("turn", [0.1, -0.07, 0.031])
def test_hue_turns_the_colour_circle(turn):
    expected = []
    for pixel in picture(16).reshape(-1, 3):
        hue, saturation, value = colorsys.rgb_to_hsv(*(pixel / 255))
        expected.append(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value))
    actual = augment._hue(picture(16), turn).reshape(-1, 3)
    error = np.abs(actual - 255 * np.array(expected))
    # One step of an 8-bit hue is six levels of a saturated colour.
    assert error.max() < 12 and error.mean() < 1.2


def test_grey_has_three_equal_channels():
    options = Photometric(jitter_rate=0, grey_rate=1, blur_rate=0)
    actual = photometric(picture(), np.random.default_rng(0), options)
    np.testing.assert_array_equal(actual, np.repeat(actual[..., :1], 3, axis=2))
    np.testing.assert_allclose(actual[..., 0], grey_of(picture()), atol=1.0)


def test_blur_spreads_a_dot_by_its_sigma():
    dot = np.zeros((41, 41, 3), np.uint8)
    dot[18:23, 18:23] = 255
    options = Photometric(0, grey_rate=0, blur_rate=1, blur_sigma=(2.0, 2.0))
    blurred = photometric(dot, np.random.default_rng(0), options)[..., 0].astype(float)
    profile = blurred.sum(axis=0) / blurred.sum()
    variance = (profile * (np.arange(41) - 20.0) ** 2).sum()
    # Variances add: that of a run of five pixels is 2.
    np.testing.assert_allclose(variance, 2.0**2 + 2, rtol=0.05)


@pytest.mark.parametrize(
    "options, rate",
    [
        (Photometric(grey_rate=0, blur_rate=0), 0.5),
        (Photometric(jitter_rate=0, blur_rate=0), 0.2),
        (Photometric(jitter_rate=0, grey_rate=0, blur_sigma=(1, 1)), 0.5),
    ],
)
def test_each_change_happens_at_its_rate(options, rate):
    rng = np.random.default_rng(11)
    image = picture(8)
    changed = [(photometric(image, rng, options) != image).any() for _ in range(1000)]
    assert abs(np.mean(changed) - rate) < 0.05


def test_the_four_jitters_come_in_random_order():
    options = Photometric(1.0, 0.9, 0.9, grey_rate=0, blur_rate=0, hue=0)
    outcomes = set()
    image = picture(8)

    class FixedAmounts(np.random.Generator):
        """Draws the same amounts each time, so only the order differs."""

        def random(self, size):
            return np.zeros(size)

        def uniform(self, low, high, size=None):
            return 1.0 if size is None else np.full(size, 0.9)

    for seed in range(20):
        outcomes.add(
            photometric(image, FixedAmounts(np.random.PCG64(seed)), options).tobytes()
        )
    assert len(outcomes) > 1


def test_the_same_numbers_are_drawn_whatever_happens():
    after = set()
    for options in (Photometric(), Photometric(strength=0), ALWAYS):
        rng = np.random.default_rng(8)
        draw_changes(rng, options)
        after.add(rng.random())
    assert len(after) == 1


def test_what_does_not_happen_has_an_amount_of_zero():
    changes = draw_changes(np.random.default_rng(0), Photometric(strength=0))
    assert changes._replace(order=NO_CHANGES.order) == NO_CHANGES


def test_changes_become_arrays_of_the_same_shapes():
    rng = np.random.default_rng(1)
    found = {
        tuple((name, v.shape, v.dtype.name) for name, v in arrays.items())
        for arrays in (
            change_arrays(draw_changes(rng, Photometric()), Photometric())
            for _ in range(16)
        )
    }
    assert found == {
        (
            ("jitter_order", (4,), "int32"),
            ("jitter_amounts", (4,), "float32"),
            ("is_grey", (), "bool"),
            ("blur_kernel", (7,), "float32"),
        )
    }


def test_flip_mirrors_stored_labels_and_where_they_lie():
    maps = np.arange(9, dtype=np.uint8).reshape(3, 3)
    labels = {
        "stored_walk": maps,
        "stored_mask": maps.T.copy(),
        "label_region": np.array([-2, 1, 20, 30], np.float32),
    }
    after = flip_sample(sample() | labels)
    np.testing.assert_array_equal(after["stored_walk"], maps[:, ::-1])
    np.testing.assert_array_equal(after["stored_mask"], maps.T[:, ::-1])
    np.testing.assert_array_equal(after["label_region"], [4, 1, 26, 30])
