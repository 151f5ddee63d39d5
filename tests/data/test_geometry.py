import hypothesis.strategies as st
import pytest
from hypothesis import given

from exits_jax.data.geometry import (
    box_distance,
    box_of,
    clip_box,
    look_normalised,
    order_excess,
    sorted_points,
)

number = st.integers(-50, 150).map(float)
point = st.tuples(number, number)
four = st.lists(point, min_size=4, max_size=4)
box = st.tuples(number, number, number, number)


@given(four)
def test_the_box_of_points_holds_their_pixels_and_no_more(points):
    x0, y0, x1, y1 = box_of(points)
    assert all(x0 <= x < x1 and y0 <= y < y1 for x, y in points)
    assert x0 in [x for x, _ in points] and x1 - 1 in [x for x, _ in points]
    assert y0 in [y for _, y in points] and y1 - 1 in [y for _, y in points]


@given(box, st.tuples(st.integers(1, 99), st.integers(1, 99)))
def test_a_clipped_box_lies_in_both_or_is_empty(box, size):
    x0, y0, x1, y1 = clip_box(box, size)
    if x0 < x1 and y0 < y1:
        assert max(box[0], 0) <= x0 and x1 <= min(box[2], size[1])
        assert max(box[1], 0) <= y0 and y1 <= min(box[3], size[0])


@given(four)
def test_sorted_points_are_points_each_the_extreme_of_its_side(points):
    ordered = sorted_points(points)
    assert set(ordered) <= set(points)
    assert max(order_excess(ordered)) <= 1
    assert box_of(ordered) == pytest.approx(box_of(points), abs=1)


@pytest.mark.parametrize(
    ("bbox", "expected"),
    [
        ((20, 10, 60, 50), 0.0),
        ((15, 10, 60, 50), 1.0),  # 5 px
        ((20, 10, 60, 70), 4.0),
        ((20, 10, 420, 50), 18.0),  # 360 px where 5 % of the side are 20
    ],
)
def test_distances_are_in_units_of_the_tolerance(bbox, expected):
    assert box_distance((20, 10, 60, 50), bbox) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "size", "expected"),
    [
        ((0.2, 0.9), (80, 96), True),
        ((0.2, 1.1), (80, 96), False),
        ((0, 1), (2, 2), False),
    ],
)
def test_shares_of_an_image_look_like_shares(values, size, expected):
    assert look_normalised(values, size) == expected
