"""Points in another frame than their box; all else is tested with the file reader."""

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given

from exits_jax.data.records import AnnotationError, StoredImage, read_instance

SIZE = (480, 640)  # height, width


def read(points, bbox):
    record = {"id": 7, "image_id": 1, "category_id": 3}
    record |= {"extreme_points": points, "bbox": bbox}
    return read_instance(record, StoredImage("a.jpg", SIZE, ()), {3})


def objects():
    """Whole-pixel boxes of at least 40 px, as (x0, y0, x1, y1) of their pixels."""
    side = lambda limit: st.tuples(
        st.integers(0, limit - 41), st.integers(40, limit)
    ).map(lambda pair: (pair[0], min(pair[0] + pair[1], limit - 1)))
    return st.tuples(side(640), side(480)).map(
        lambda sides: (sides[0][0], sides[1][0], sides[0][1], sides[1][1])
    )


def clicks(x0, y0, x1, y1):
    return [[(x0 + x1) // 2, y0], [x0, (y0 + y1) // 2]] + [
        [(x0 + x1) // 2, y1],
        [x1, (y0 + y1) // 2],
    ]


def bbox_of(x0, y0, x1, y1):
    return [x0, y0, x1 - x0 + 1, y1 - y0 + 1]


@given(objects())
def test_points_in_the_frame_of_their_box_are_never_taken_for_others(shape):
    assert read(clicks(*shape), bbox_of(*shape)).flags == ()


READINGS = {
    "[y, x]": lambda x, y: [y, x],
    "percent of the image": lambda x, y: [100 * x / 640, 100 * y / 480],
    "shares of the image": lambda x, y: [x / 640, y / 480],
}


@given(objects(), st.sampled_from(sorted(READINGS)))
def test_points_that_fit_their_box_in_another_reading_only_are_refused(shape, reading):
    points = [READINGS[reading](*click) for click in clicks(*shape)]
    xs, ys = zip(*points)
    far = max(abs(a - b) for a, b in zip(shape, (min(xs), min(ys), max(xs), max(ys))))
    assume(far > 120)
    with pytest.raises(AnnotationError, match="only if read as") as caught:
        read(points, bbox_of(*shape))
    assert caught.value.problems[0].code == "E209"
    assert reading in str(caught.value)


def test_points_that_fit_in_no_reading_win_over_the_box():
    points = clicks(300, 200, 400, 300)
    assert read(points, [10, 10, 50, 50]).flags == ("points_disagree_with_box",)


def test_a_box_outside_the_image_vouches_for_nothing():
    points = clicks(300, 200, 400, 300)
    assert read(points, [900, 10, 50, 50]).flags == ("points_disagree_with_box",)
