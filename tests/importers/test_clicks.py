import itertools

import hypothesis.strategies as st
import pytest
from hypothesis import given

from exits_jax.data.records import AnnotationError
from exits_jax.importers.clicks import in_order, place_box, place_clicks
from tests.importers.made import POINTS

SIZE = (80, 100)  # height, width


def code_of(function, *arguments):
    with pytest.raises(AnnotationError) as caught:
        function(*arguments)
    return caught.value.problems[0].code


coordinates = st.one_of(
    st.integers(0, 12).map(float), st.floats(0, 79, allow_subnormal=False)
)
four_clicks = st.lists(st.tuples(coordinates, coordinates), min_size=4, max_size=4)


@given(clicks=four_clicks, order=st.permutations(range(4)))
def test_the_order_of_the_clicks_does_not_matter(clicks, order):
    assert in_order([clicks[place] for place in order]) == in_order(clicks)


@given(clicks=four_clicks)
def test_each_side_gets_an_outermost_click(clicks):
    top, left, bottom, right = in_order(clicks)
    xs, ys = zip(*clicks)
    assert top[1] - min(ys) <= 1 and max(ys) - bottom[1] <= 1
    assert left[0] - min(xs) <= 1 and max(xs) - right[0] <= 1
    assert {top, left, bottom, right} <= set(clicks)


def test_a_click_in_a_corner_serves_two_sides():
    corner, stray = (5.0, 5.0), (20.0, 20.0)
    clicks = [stray, (30.0, 60.0), corner, (50.0, 30.0)]
    for order in itertools.permutations(clicks):
        assert in_order(order) == [corner, corner, (30.0, 60.0), (50.0, 30.0)]


def test_pixels_are_taken_as_they_are():
    clicks = [(60, 30), (30, 10), (40, 50.5), (20, 25)]
    assert place_clicks(clicks, "px", SIZE) == [
        (30.0, 10.0),
        (20.0, 25.0),
        (40.0, 50.5),
        (60.0, 30.0),
    ]


@pytest.mark.parametrize("unit, far", [("share", 1), ("percent", 100)])
def test_shares_and_percents_run_from_edge_to_edge(unit, far):
    height, width = SIZE
    centres = [((x + 0.5) / width * far, (y + 0.5) / height * far) for x, y in POINTS]
    assert place_clicks(centres, unit, SIZE) == list(POINTS)


def test_the_far_edges_are_the_outermost_pixels():
    clicks = [(0.5, 0), (0, 0.5), (0.5, 1), (1, 0.5)]
    assert place_clicks(clicks, "share", SIZE) == [
        (49.5, 0.0),
        (0.0, 39.5),
        (49.5, 79.0),
        (99.0, 39.5),
    ]


def test_boxes_stay_in_the_frame_of_edges():
    assert place_box((0.1, 0.25, 1, 0.5), "share", SIZE) == (10, 20, 100, 40)
    assert place_box((10, 25, 100, 50), "percent", SIZE) == (10, 20, 100, 40)
    assert place_box((10, 20, 100, 40), "px", SIZE) == (10, 20, 100, 40)


SHARES = [(0.3, 0.1), (0.2, 0.3), (0.4, 0.5), (0.6, 0.4)]
DOUBTFUL = {
    "shares as px": (SHARES, "px"),
    "shares as percent": (SHARES, "percent"),
    "px as share": (POINTS, "share"),
    "percent as share": ([(30, 10), (20, 30), (40, 50), (60, 40)], "share"),
    "px as percent": ([(300, 10), (20, 25), (40, 50), (60, 30)], "percent"),
    "negative share": ([(-0.1, 0.1), *SHARES[1:]], "share"),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_numbers_of_another_unit_are_refused(name):
    clicks, unit = DOUBTFUL[name]
    assert code_of(place_clicks, clicks, unit, SIZE) == "E209"


@pytest.mark.parametrize(
    "box, unit",
    [
        ((0.1, 0.1, 0.5, 0.5), "px"),
        ((0.1, 0.1, 0.5, 0.5), "percent"),
        ((10, 10, 50, 50), "share"),
        ((10, 10, 50, 500), "percent"),
    ],
)
def test_a_box_of_another_unit_is_refused(box, unit):
    assert code_of(place_box, box, unit, SIZE) == "E209"


def test_rounding_across_the_border_is_no_other_unit():
    clicks = [(0.3, -0.004), *SHARES[1:]]
    ((_, top), *_) = place_clicks(clicks, "share", SIZE)
    assert -1 <= top < 0  # left for the check of the record, which remarks on it


@pytest.mark.parametrize("number", [3, 5])
def test_four_clicks_are_expected(number):
    clicks = [(float(i), float(i * i)) for i in range(number)]
    assert code_of(place_clicks, clicks, "px", SIZE) == "E207"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "12", None, True, 1e12])
def test_what_is_no_finite_number_is_refused(value):
    clicks = [(value, 10), *POINTS[1:]]
    assert code_of(place_clicks, clicks, "px", SIZE) == "E104"
    assert code_of(place_box, (value, 1, 20, 30), "px", SIZE) == "E104"


def test_an_unknown_unit_is_a_mistake_of_the_program():
    with pytest.raises(ValueError, match="choose one of px, share, percent"):
        place_clicks(POINTS, "inch", SIZE)
