import cv2
import numpy as np
import pytest

from exits_jax.evaluation import baselines


def disc(height=120, width=160, radius=30):
    """A red disc on a blue ground: image, true mask and box."""
    ys, xs = np.mgrid[:height, :width]
    mask = np.hypot(ys - 60, xs - 80) <= radius
    image = np.where(mask[..., None], [200, 40, 40], [40, 60, 180])
    noise = np.random.default_rng(0).normal(0, 8, image.shape)
    image = np.clip(image + noise, 0, 255).astype(np.uint8)
    box = (80.0 - radius, 60.0 - radius, 81.0 + radius, 61.0 + radius)
    return image, mask, box


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_box_mask_fills_the_pixels_that_the_box_touches():
    mask = baselines.box_mask((1.5, 2.0, 3.5, 4.0), (6, 8))
    expected = np.zeros((6, 8), bool)
    expected[2:4, 1:4] = True
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("box", [(-5.0, -5.0, 99.0, 99.0), (7.9, 5.9, 8.0, 6.0)])
def test_box_mask_stays_in_the_image_and_is_never_empty(box):
    assert baselines.box_mask(box, (6, 8)).any()


def test_an_octagon_of_clicks_in_the_middle_cuts_four_corners_of_three_eighths():
    clicks = np.array([[49.5, 10], [10, 49.5], [49.5, 89], [89, 49.5]])
    mask = baselines.octagon_mask(clicks, (10.0, 10.0, 90.0, 90.0), (100, 120))
    assert mask.sum() == pytest.approx(80**2 - 4 * 30**2 / 2, rel=0.02)
    np.testing.assert_array_equal(mask[:, :100], mask[:, 99::-1])
    np.testing.assert_array_equal(mask, mask[::-1])


def test_an_octagon_holds_the_pixels_with_their_centre_in_its_polygon():
    rng = np.random.default_rng(0)
    for _ in range(10):
        x0, y0 = rng.integers(0, 20, 2).tolist()
        x1, y1 = rng.integers(30, 60, 2).tolist()
        top, bottom = rng.integers(x0, x1, 2)
        left, right = rng.integers(y0, y1, 2)
        clicks = np.array([[top, y0], [x0, left], [bottom, y1 - 1], [x1 - 1, right]])
        corners = []
        ends = lambda at, low, high: np.clip(
            [at + 0.5 - (high - low) / 8, at + 0.5 + (high - low) / 8], low, high
        )
        corners += [(x, y0) for x in ends(top, x0, x1)]
        corners += [(x1, y) for y in ends(right, y0, y1)]
        corners += [(x, y1) for x in ends(bottom, x0, x1)[::-1]]
        corners += [(x0, y) for y in ends(left, y0, y1)[::-1]]
        polygon = np.array(corners, np.float32)
        mask = baselines.octagon_mask(clicks, (x0, y0, x1, y1), (64, 64))
        for y in range(64):
            for x in range(64):
                far = cv2.pointPolygonTest(polygon, (x + 0.5, y + 0.5), True)
                assert abs(far) < 1e-3 or mask[y, x] == (far > 0)


def test_an_octagon_keeps_every_click():
    clicks = np.array([[10, 10], [10, 49], [49, 49], [49, 10]])  # in the corners
    mask = baselines.octagon_mask(clicks, (10.0, 10.0, 50.0, 50.0), (60, 70))
    for x, y in clicks:
        assert mask[y, x]


def test_the_octagon_of_a_box_alone_is_the_box():
    box = (1.5, 2.0, 3.5, 4.0)
    mask = baselines.octagon_mask(None, box, (6, 8))
    np.testing.assert_array_equal(mask, baselines.box_mask(box, (6, 8)))


@pytest.mark.parametrize(
    "clicks",
    [
        [[2, 2]] * 4,
        [[90, 90]] * 4,
        [[3, 2], [4, 3], [3, 3], [2, 3]],  # left given as right
    ],
)
@pytest.mark.parametrize("box", [(2.0, 2.0, 5.0, 4.0), (2.2, 2.2, 2.4, 2.4)])
def test_an_octagon_of_odd_clicks_is_never_empty_and_never_outside_the_box(clicks, box):
    mask = baselines.octagon_mask(np.array(clicks), box, (6, 8))
    assert mask.any() and not (mask & ~baselines.box_mask(box, (6, 8))).any()


def test_grabcut_finds_a_disc():
    image, mask, box = disc()
    assert iou(baselines.grabcut_mask(image, box), mask) > 0.95


def test_grabcut_finds_a_disc_that_it_has_to_scale_down():
    image, mask, box = disc()
    assert iou(baselines.grabcut_mask(image, box, max_side=48), mask) > 0.85


def test_grabcut_gives_the_same_mask_twice():
    image, _, box = disc()
    image = np.random.default_rng(1).integers(0, 256, image.shape, dtype=np.uint8)
    first = baselines.grabcut_mask(image, box)
    np.testing.assert_array_equal(first, baselines.grabcut_mask(image, box))


@pytest.mark.parametrize(
    "box",
    [
        (0.0, 0.0, 160.0, 120.0),  # fills the image
        (0.0, 0.0, 160.0, 119.0),
        (50.0, 50.0, 51.0, 51.0),
        (50.2, 50.2, 50.4, 50.4),
        (159.0, 119.0, 160.0, 120.0),
        (10.0, 50.0, 150.0, 51.0),
    ],
)
def test_grabcut_is_never_empty_and_never_outside_the_box(box):
    image, _, _ = disc()
    mask = baselines.grabcut_mask(image, box)
    assert mask.shape == (120, 160) and mask.any()
    assert not (mask & ~baselines.box_mask(box, (120, 160))).any()


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (200, 1)])
def test_grabcut_takes_the_smallest_images(size):
    image = np.zeros((*size, 3), np.uint8)
    assert baselines.grabcut_mask(image, (0.0, 0.0, 1.0, 1.0)).any()


def test_grabcut_on_one_colour_falls_back_to_the_box():
    image = np.full((60, 60, 3), 128, np.uint8)
    box = (20.0, 20.0, 40.0, 40.0)
    assert baselines.grabcut_mask(image, box).any()
