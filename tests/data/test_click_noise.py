import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from exits_jax.data.click_noise import (
    ClickNoise,
    drawn_inside,
    generator,
    jittered_points,
    point_in_band,
    point_on_run,
)
from exits_jax.data.extreme_points import (
    clean_points,
    json_points,
    points_of_record,
)
from exits_jax.data.masks import decode_mask
from exits_jax.data.records import AnnotationError
from tests.support.coded_masks import coded

SIZE = (480, 640)
POINTS = np.array([[300, 100], [200, 250], [310, 399], [499, 240]], np.float32)
# A flat top of 100 px, whose middle is (150, 100), and a blunt left end.
HOUSE = [[100.0, 100.0, 200.0, 100.0, 260.0, 200.0, 180.0, 300.0, 60.0, 210.0]]
IMAGE = {"id": 1, "width": 640, "height": 480}


def record(segmentation, annotation_id=5):
    return {"id": annotation_id, "image_id": 1, "segmentation": segmentation}


def noisy(segmentation, noise, mode="extremenet", annotation_id=5, image=IMAGE):
    return points_of_record(
        record(segmentation, annotation_id), image, mode=mode, noise=noise
    )


def ellipse_mask(height=200, width=300):
    y, x = np.mgrid[:480, :640]
    return ((y - 240) / (height / 2)) ** 2 + ((x - 320) / (width / 2)) ** 2 < 1


# What noise may be


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "blur"}, "'blur'; choose one of none, px, share, run"),
        ({"kind": "px", "amount": -1.0}, "not negative"),
        ({"kind": "px", "amount": float("nan")}, "finite"),
        ({"kind": "run", "amount": 2.0}, "0 to 1"),
    ],
)
def test_noise_that_makes_no_sense_is_refused(values, words):
    with pytest.raises(ValueError, match=words):
        ClickNoise(**values)


# Jitter


def many(kind, amount, number=4000):
    noise = ClickNoise(kind, amount)
    drawn = [
        jittered_points(POINTS, SIZE, noise, generator(noise, i)) for i in range(number)
    ]
    return np.stack(drawn) - POINTS


@pytest.mark.parametrize("amount", [1.0, 6.5])
def test_jitter_in_pixels_has_its_standard_deviation_along_both_axes(amount):
    moves = many("px", amount)
    # 4 x 4000 draws: the estimate is off by 0.6 %, one standard deviation.
    np.testing.assert_allclose(moves.std(axis=(0, 1)), amount, rtol=0.03)
    np.testing.assert_allclose(moves.mean(axis=(0, 1)), 0, atol=0.04 * amount)


def test_jitter_by_share_goes_with_the_sides_of_the_box():
    moves = many("share", 0.02)
    # The points span 300 px along x and 300 px along y; stretch one of them.
    np.testing.assert_allclose(moves.std(axis=(0, 1)), [6, 6], rtol=0.03)
    noise = ClickNoise("share", 0.02)
    flat = POINTS * [1, 0.25]
    drawn = [
        jittered_points(flat, SIZE, noise, generator(noise, i)) for i in range(999)
    ]
    spread = (np.stack(drawn) - flat).std(axis=(0, 1))
    np.testing.assert_allclose(spread, [6, 0.02 * 75.75], rtol=0.06)


def test_points_and_axes_are_drawn_independently():
    moves = many("px", 3.0).reshape(-1, 8)
    correlation = np.corrcoef(moves.T) - np.eye(8)
    assert np.abs(correlation).max() < 0.06


def test_jitter_has_two_decimals():
    points = json_points(noisy(HOUSE, ClickNoise("px", 2.0)))
    assert points == [[round(v, 2) for v in row] for row in points]
    assert any(value != int(value) for row in points for value in row)


@settings(deadline=None, max_examples=100)
@given(
    sides=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    amount=st.floats(0, 200),
    kind=st.sampled_from(["px", "share"]),
    seed=st.integers(0, 2**40),
)
def test_jittered_points_stay_in_the_image_and_keep_an_extent(
    sides, amount, kind, seed
):
    height, width = sides
    points = np.array([[width // 2, 0], [0, height // 2]] * 2, np.float32)
    noise = ClickNoise(kind, amount, seed)
    drawn = jittered_points(points, sides, noise, generator(noise, "a"))
    assert (drawn >= 0).all()
    assert (drawn <= [width - 1, height - 1]).all()
    assert (np.ptp(drawn, axis=0) > 0).all()


def test_image_of_one_column_keeps_the_points_as_they_are():
    points = np.array([[0, 1], [0, 4], [0, 8], [0, 4]], np.float32)
    noise = ClickNoise("px", 3.0)
    drawn = jittered_points(points, (10, 1), noise, generator(noise, 1))
    np.testing.assert_array_equal(drawn, points)


def test_draw_without_an_extent_is_drawn_again():
    draws = iter([np.full((4, 2), 3.0), POINTS + 1.0])
    drawn = drawn_inside(lambda: next(draws), POINTS, SIZE)
    np.testing.assert_array_equal(drawn, POINTS + 1)


# Other points of the run


def test_points_on_a_run_are_spread_evenly_over_its_length():
    vertices = [(0, 0), (10, 0), (10, 0), (40, 40)]  # 10 px and 50 px
    rng = np.random.default_rng(0)
    drawn = np.array([point_on_run(vertices, [True] * 3, rng) for _ in range(6000)])
    first = drawn[:, 1] == 0
    assert abs(first.mean() - 1 / 6) < 0.02
    assert abs(drawn[first, 0].mean() - 5) < 0.3
    assert abs(drawn[~first, 0].mean() - 25) < 0.5
    slope = drawn[~first, 1] / (drawn[~first, 0] - 10)
    np.testing.assert_allclose(slope, 4 / 3, rtol=1e-6)


def test_no_point_lies_between_two_polygons():
    vertices = [(0, 0), (10, 0), (90, 0), (100, 0)]
    rng = np.random.default_rng(0)
    drawn = [point_on_run(vertices, [True, False, True], rng) for _ in range(500)]
    x = np.array(drawn)[:, 0]
    assert ((x <= 10) | (x >= 90)).all()
    assert 0.4 < (x <= 10).mean() < 0.6


def test_run_of_one_vertex_is_that_vertex():
    rng = np.random.default_rng(0)
    assert point_on_run([(3, 4)], [], rng) == (3, 4)
    assert point_on_run([(3, 4), (9, 9)], [False], rng) == (3, 4)


def test_run_of_a_polygon_is_its_flat_top():
    noise = ClickNoise("run", 1.0)
    top = np.array([noisy(HOUSE, noise, annotation_id=i)[0] for i in range(2000)])
    assert (top[:, 1] == 100).all()
    assert top[:, 0].min() < 101 and top[:, 0].max() > 199
    assert abs(top[:, 0].mean() - 150) < 2
    assert abs(top[:, 0].std() - 100 / np.sqrt(12)) < 1


def test_second_polygon_is_not_joined_to_the_first():
    # Both have a top at y = 10; in the list of vertices they follow each other.
    two = [[20, 90, 10, 10, 30, 10], [70, 10, 90, 10, 80, 90]]
    noise = ClickNoise("run", 1.0)
    x = np.array([noisy(two, noise, annotation_id=i)[0, 0] for i in range(300)])
    assert ((x <= 30) | (x >= 70)).all()
    assert (x <= 30).any() and (x >= 70).any()


def test_closing_edge_of_a_polygon_belongs_to_its_run():
    square = [[100, 100, 100, 200, 200, 200, 200, 100]]  # its top closes it
    noise = ClickNoise("run", 1.0)
    x = np.array([noisy(square, noise, annotation_id=i)[0, 0] for i in range(300)])
    assert x.min() < 110 and x.max() > 190


@pytest.mark.parametrize("mode", ["extremenet", "clean"])
def test_points_of_a_raster_are_pixels_of_its_band(mode):
    mask = ellipse_mask()
    rows, columns = np.nonzero(mask)
    low, high = (
        np.array([columns.min(), rows.min()]),
        np.array([columns.max(), rows.max()]),
    )
    slack = 0.02 * (high - low + 1)
    noise = ClickNoise("run", 1.0)
    drawn = np.stack(
        [noisy(coded(mask), noise, mode, annotation_id=i) for i in range(200)]
    )
    whole = drawn.astype(int)
    np.testing.assert_array_equal(whole, drawn)
    assert mask[whole[..., 1], whole[..., 0]].all()
    assert (drawn[:, 0, 1] - low[1] <= slack[1]).all()
    assert (drawn[:, 1, 0] - low[0] <= slack[0]).all()
    assert (high[1] - drawn[:, 2, 1] <= slack[1]).all()
    assert (high[0] - drawn[:, 3, 0] <= slack[0]).all()
    # Spread over the band, not one place of it: the chord at that depth is 84 px.
    assert np.ptp(drawn[:, 0, 0]) > 60


@pytest.mark.parametrize("side", range(4))
def test_part_of_the_band_that_is_not_connected_to_the_extreme_is_left_out(side):
    mask = np.zeros((100, 60), bool)
    mask[10:90, 20:40] = True
    mask[0:10, 20:24] = mask[0:10, 36:40] = True  # two towers, one a pixel lower
    mask[0, 36:40] = False
    turned = {0: mask, 1: mask.T, 2: mask[::-1], 3: mask.T[:, ::-1]}[side]
    start = clean_points(turned)[side].astype(int).tolist()
    rng = np.random.default_rng(0)
    drawn = {point_in_band(turned, side, start, rng) for _ in range(300)}
    along = {place[side % 2] for place in drawn}
    across = {place[1 - side % 2] for place in drawn}
    assert along == {20, 21, 22, 23}
    assert across == ({0, 1} if side < 2 else {98, 99})


@settings(deadline=None, max_examples=60)
@given(
    polygon=st.lists(
        st.tuples(st.integers(0, 639), st.integers(0, 479)), min_size=3, max_size=9
    ),
    annotation_id=st.integers(),
)
def test_points_on_runs_are_within_two_percent_of_the_sides(polygon, annotation_id):
    xs, ys = np.array(polygon, float).T
    if not np.ptp(xs) or not np.ptp(ys):
        return
    flat = [[float(v) for vertex in polygon for v in vertex]]
    drawn = noisy(flat, ClickNoise("run", 1.0), annotation_id=annotation_id)
    slack_x, slack_y = 0.02 * (np.ptp(xs) + 1) + 0.01, 0.02 * (np.ptp(ys) + 1) + 0.01
    assert abs(drawn[0, 1] - ys.min()) <= slack_y
    assert abs(drawn[1, 0] - xs.min()) <= slack_x
    assert abs(drawn[2, 1] - ys.max()) <= slack_y
    assert abs(drawn[3, 0] - xs.max()) <= slack_x
    assert (np.ptp(drawn, axis=0) > 0).all()


def test_amount_of_run_is_the_part_of_the_points_that_move():
    noise = ClickNoise("run", 0.25)
    plain = noisy(HOUSE, None)
    moved = [
        (noisy(HOUSE, noise, annotation_id=i)[0] != plain[0]).any() for i in range(2000)
    ]
    assert abs(np.mean(moved) - 0.25) < 0.03


# One draw for each object

GOLDEN = [[149.72, 95.34], [152.55, 97.27], [153.44, 102.66], [151.39, 98.37]]


@pytest.mark.parametrize("kind", ["none", "px", "share", "run"])
@pytest.mark.parametrize("mode", ["extremenet", "clean"])
def test_amount_zero_changes_nothing(kind, mode):
    expected = noisy(HOUSE, None, mode)
    drawn = noisy(HOUSE, ClickNoise(kind, 0.0), mode)
    np.testing.assert_array_equal(drawn, expected)
    assert drawn.dtype == expected.dtype


def test_kind_none_changes_nothing_whatever_its_amount():
    drawn = noisy(HOUSE, ClickNoise("none", 5.0))
    np.testing.assert_array_equal(drawn, noisy(HOUSE, None))


@pytest.mark.parametrize("noise", [ClickNoise("px", 3.0), ClickNoise("run", 1.0)])
def test_noise_depends_on_seed_and_id_alone(noise):
    draw = lambda noise, i: noisy(HOUSE, noise, annotation_id=i).tolist()
    other_seed = ClickNoise(noise.kind, noise.amount, seed=1)
    assert draw(noise, 5) == draw(noise, 5)
    assert draw(noise, 5) != draw(noise, 6)
    assert draw(noise, 5) != draw(noise, "5")
    assert draw(noise, 5) != draw(other_seed, 5)


def test_order_of_the_records_does_not_matter():
    noise = ClickNoise("px", 2.0)
    draw = lambda number: points_of_record(
        record(HOUSE, number), IMAGE, mode="extremenet", noise=noise
    ).tolist()
    forward = [draw(number) for number in range(6)]
    assert forward == [draw(number) for number in reversed(range(6))][::-1]
    assert len({str(points) for points in forward}) == 6


def test_the_draw_of_an_object_is_the_same_everywhere():
    noise = ClickNoise("px", 2.0, seed=3)
    points = np.array([[150, 100]] * 4)
    drawn = jittered_points(points, SIZE, noise, generator(noise, 7))
    assert drawn.tolist() == GOLDEN  # written down once


def test_points_that_exist_are_never_changed():
    row = {**record(HOUSE), "extreme_points": [[1, 0], [0, 1], [1, 2], [2, 1]]}
    assert (
        points_of_record(row, IMAGE, mode="clean", noise=ClickNoise("px", 9.0)) is None
    )


def test_record_without_an_id_cannot_have_noise():
    with pytest.raises(AnnotationError, match="click noise is drawn by it") as caught:
        noisy(HOUSE, ClickNoise("px", 1.0), annotation_id=None)
    assert caught.value.problems[0].code == "E105"


def test_jitter_in_clean_mode_starts_from_pixels_of_the_mask():
    plain = clean_points(decode_mask(HOUSE, *SIZE))
    drawn = [
        noisy(HOUSE, ClickNoise("px", 1.0), "clean", annotation_id=i)
        for i in range(500)
    ]
    np.testing.assert_allclose(np.mean(drawn, axis=0), plain, atol=0.2)
