import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exits_jax.data import crops

HEIGHT, WIDTH = 40, 56


def gradient(height=HEIGHT, width=WIDTH):
    """Red grows with x, green with y, blue is constant."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = 10 + 4 * np.arange(width)
    image[..., 1] = 10 + 4 * np.arange(height)[:, None]
    image[..., 2] = 99
    return image


@st.composite
def boxes(draw):
    """A box inside the image, at least 1 px wide and high."""
    x0 = draw(st.floats(0, WIDTH - 2))
    y0 = draw(st.floats(0, HEIGHT - 2))
    x1 = draw(st.floats(x0 + 1, WIDTH))
    y1 = draw(st.floats(y0 + 1, HEIGHT))
    return x0, y0, x1, y1


@settings(deadline=None, max_examples=60)
@given(box=boxes(), seed=st.integers(0, 99))
def test_box_lies_inside_its_crop_and_spans_five_eighths_of_it(box, seed):
    margins = crops.train_margins(np.random.default_rng(seed), 1.2)
    window = crops.crop_window(box, margins)
    x0, y0, x1, y1 = crops.box_to_crop(box, window, 512)
    assert 0 <= min(x0, y0) and max(x1, y1) <= 512
    # At most 1.6 boxes, and up to 3 px by rounding outwards and the extra pixel.
    assert window.x1 - window.x0 <= 1.6 * (box[2] - box[0]) + 3
    assert window.y1 - window.y0 <= 1.6 * (box[3] - box[1]) + 3


@settings(deadline=None, max_examples=60)
@given(box=boxes())
def test_window_without_margins_is_the_box_rounded_out_and_one_pixel(box):
    window = crops.crop_window(box, (0.0, 0.0, 0.0, 0.0))
    assert window.x0 >= 0 and window.y0 >= 0
    assert window.x1 <= WIDTH + 1 and window.y1 <= HEIGHT + 1
    # Halving and doubling may move a corner by one rounding step of float64.
    assert window.x0 in (np.floor(box[0]), np.floor(box[0] - 1e-9))
    assert window.x1 in (np.ceil(box[2] + 1), np.ceil(box[2] + 1 + 1e-9))


def test_window_follows_the_rule_with_unequal_margins():
    window = crops.crop_window((10, 20, 30, 40), (0.5, 0.0, 1.0, 0.25))
    assert window == crops.Window(x0=5, y0=20, x1=41, y1=44)


def test_label_margins_share_the_rate_between_the_sides():
    assert crops.test_margins(0.6) == (0.3, 0.3, 0.3, 0.3)


def test_train_margins_of_one_axis_add_to_at_most_the_limit():
    rng = np.random.default_rng(0)
    drawn = np.array([crops.train_margins(rng, 1.2) for _ in range(2000)])
    assert drawn.min() >= 0
    assert (drawn[:, 0] + drawn[:, 2]).max() <= 1.2
    np.testing.assert_allclose(drawn.mean(axis=0), 0.3, atol=0.02)


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (5, 9, 8, 4), (0, 0, np.nan, 4)])
def test_rejects_a_box_without_pixels(box):
    with pytest.raises(ValueError, match="right > left, bottom > top"):
        crops.crop_window(box, (0.0, 0.0, 0.0, 0.0))


@pytest.mark.parametrize(
    "window",
    [
        crops.Window(3, 4, 20, 30),
        crops.Window(-7, -9, 20, 30),
        crops.Window(40, 30, 70, 50),
        crops.Window(-200, -90, 190, 130),  # wraps several times
        crops.Window(60, 45, 80, 60),  # all outside
    ],
)
def test_pixels_outside_come_from_the_opposite_border(window):
    image = gradient()
    rows = np.arange(window.y0, window.y1) % HEIGHT
    columns = np.arange(window.x0, window.x1) % WIDTH
    side = max(len(rows), len(columns))
    square = crops.Window(window.x0, window.y0, window.x0 + side, window.y0 + side)
    rows = np.arange(square.y0, square.y1) % HEIGHT
    columns = np.arange(square.x0, square.x1) % WIDTH
    # A square window of the crop's own size is copied pixel by pixel.
    cropped = crops.crop_image(image, square, side)
    np.testing.assert_array_equal(cropped, image[rows[:, None], columns])


def test_crop_of_the_whole_image_is_a_copy():
    image = gradient(32, 32)
    cropped = crops.crop_image(image, crops.Window(0, 0, 32, 32), 32)
    np.testing.assert_array_equal(cropped, image)
    assert not np.shares_memory(cropped, image)


def test_crop_is_square_whatever_the_window():
    cropped = crops.crop_image(gradient(), crops.Window(2, 3, 30, 12), 64)
    assert cropped.shape == (64, 64, 3) and cropped.dtype == np.uint8


def test_points_land_on_the_content_they_mark():
    window, size = crops.Window(4, 6, 36, 38), 128
    cropped = crops.crop_image(gradient(), window, size).astype(float)
    points = np.array([[12, 20], [25, 9], [20, 30], [30, 15]], np.float32)
    for (x, y), (u, v) in zip(points, crops.points_to_crop(points, window, size)):
        # The gradient is linear, so reading it at u finds x: pixel i is centred on
        # i + 0.5 in the crop.
        red = np.interp(u - 0.5, np.arange(size), cropped[int(v), :, 0])
        green = np.interp(v - 0.5, np.arange(size), cropped[:, int(u), 1])
        assert abs((red - 10) / 4 - x) < 0.2 and abs((green - 10) / 4 - y) < 0.2


@settings(deadline=None, max_examples=40)
@given(box=boxes(), seed=st.integers(0, 99))
def test_points_come_back_from_the_crop(box, seed):
    margins = crops.train_margins(np.random.default_rng(seed), 1.2)
    window = crops.crop_window(box, margins)
    points = np.array([[box[0], box[1]], [box[2] - 1, box[3] - 1]], np.float32)
    in_crop = crops.points_to_crop(points, window, 224).astype(np.float64)
    extent = np.array([window.x1 - window.x0, window.y1 - window.y0])
    back = in_crop * extent / 224 + (window.x0, window.y0) - 0.5
    np.testing.assert_allclose(back, points, atol=1e-3)


def test_valid_region_is_the_image_part_of_the_crop():
    window = crops.Window(-10, 0, 30, 40)
    region = crops.valid_region((HEIGHT, WIDTH), window, 80)
    np.testing.assert_allclose(region, [20, 0, 80, 80])


def test_valid_region_is_the_whole_crop_inside_the_image():
    region = crops.valid_region((HEIGHT, WIDTH), crops.Window(1, 2, 30, 33), 64)
    np.testing.assert_array_equal(region, [0, 0, 64, 64])


def pasted_logits(logits, window, box, image_size):
    """The logits of the box in the whole image, -inf elsewhere."""
    found, (left, top) = crops.logits_in_box(logits, window, box, image_size)
    whole = np.full(image_size, -np.inf, np.float32)
    whole[top : top + found.shape[0], left : left + found.shape[1]] = found
    return whole


@pytest.mark.parametrize("grid", [16, 64])
def test_a_smooth_crop_pasted_back_is_the_image(grid):
    window = crops.Window(8, 4, 40, 36)
    box = (10, 6, 38, 34)
    # A plane over the image, sampled at the centres of the cells of a grid.
    cells = (np.arange(grid) + 0.5) * 32 / grid - 0.5
    logits = (0.3 * (cells + 8) - 0.1 * (cells + 4)[:, None]).astype(np.float32)
    pasted = pasted_logits(logits, window, box, (HEIGHT, WIDTH))
    expected = 0.3 * np.arange(WIDTH) - 0.1 * np.arange(HEIGHT)[:, None]
    inside = np.s_[6:34, 10:38]
    np.testing.assert_allclose(pasted[inside], expected[inside], atol=1e-4)


def test_crop_and_paste_agree_on_where_a_pixel_is():
    window, size = crops.Window(3, 5, 35, 37), 96
    cropped = crops.crop_image(gradient(), window, size)[..., 0].astype(np.float32)
    pasted = pasted_logits(cropped, window, (6, 8, 32, 34), (HEIGHT, WIDTH))
    expected = gradient()[8:34, 6:32, 0].astype(np.float32)
    np.testing.assert_allclose(pasted[8:34, 6:32], expected, atol=1.0)


def test_paste_keeps_the_pixels_the_box_touches_and_no_other():
    logits = np.zeros((8, 8), np.float32)
    box = (9.4, 7.0, 20.2, 15.5)
    pasted = pasted_logits(logits, crops.Window(0, 0, 30, 30), box, (HEIGHT, WIDTH))
    expected = np.full((HEIGHT, WIDTH), -np.inf)
    expected[7:16, 9:21] = 0
    np.testing.assert_array_equal(pasted, expected)


def test_paste_leaves_wrapped_pixels_out():
    pasted = pasted_logits(
        np.ones((4, 4), np.float32), crops.Window(-8, -8, 8, 8), (0, 0, 6, 6), (20, 20)
    )
    assert np.isfinite(pasted).sum() == 36 and np.isfinite(pasted[:6, :6]).all()


def test_paste_of_a_window_outside_the_image_is_empty():
    pasted = pasted_logits(
        np.ones((4, 4), np.float32), crops.Window(30, 30, 40, 40), (0, 0, 6, 6), (20, 9)
    )
    assert pasted.shape == (20, 9) and np.isneginf(pasted).all()
