import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from exits_jax.validation.problem_sheet import (
    OddRecord,
    draw_problem_sheet,
    look_at,
    write_problem_sheet,
)

RED, BLUE = (226, 52, 63), (38, 132, 255)


def noise(height=60, width=80):
    return np.random.default_rng(0).integers(0, 60, (height, width, 3), np.uint8)


def record(
    points=((50, 20), (20, 50), (50, 80), (80, 50)), box=(20, 20, 81, 81), **words
):
    points = None if points is None else np.array(points, float)
    fields = {"title": "id 7", "code": "E205", "note": "a click lies outside"}
    return OddRecord(
        np.full((100, 100, 3), 40, np.uint8), points, box, **fields | words
    )


def count(sheet, colour, slack=12):
    return int((np.abs(sheet.astype(int) - colour) <= slack).all(axis=-1).sum())


def test_clicks_and_box_are_seen():
    bare = draw_problem_sheet([record(points=None, box=None)], heading="x")
    full = draw_problem_sheet([record()], heading="x")
    assert count(full, RED) > count(bare, RED) + 4 * 50
    assert count(full, BLUE) > count(bare, BLUE) + 200


def test_a_click_beyond_the_view_is_hollow_at_its_rim():
    inside = draw_problem_sheet([record(box=None)], heading="x")
    points = ((50, -400), (20, 50), (50, 80), (80, 50))
    beyond = draw_problem_sheet([record(points, box=None)], heading="x")
    assert count(beyond, RED) < count(inside, RED)
    assert count(beyond, (90, 98, 110)) > count(inside, (90, 98, 110)) + 20


@pytest.mark.parametrize(
    ("code", "colour"),
    [("E205", (200, 36, 52)), ("W208", (176, 108, 10)), ("thin", (90, 98, 110))],
)
def test_the_badge_has_the_colour_of_its_kind(code, colour):
    sheet = draw_problem_sheet([record(code=code)], heading="x")
    assert count(sheet, colour, slack=2) > 100


def test_rows_are_filled_from_the_left():
    one = draw_problem_sheet([record()] * 6, heading="x")
    two = draw_problem_sheet([record()] * 7, heading="x")
    assert one.shape[1] == two.shape[1]
    assert two.shape[0] > one.shape[0]


@pytest.mark.parametrize(
    "text", ["", " ", "ü — 😀 " * 40, "one-long-word" * 30, "a\nb\x1b[31m", "ﷺ" * 300]
)
def test_any_text_fits(text):
    drawn = record(title=text, code=text, note=text)
    plain = draw_problem_sheet([record()], heading="x")
    assert draw_problem_sheet([drawn], heading=text).shape == plain.shape


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_numbers_of_any_kind_are_drawn(bad):
    points = [[bad, 20], [20, bad], [50, 80], [80, 50]]
    draw_problem_sheet([record(points, box=(bad, 0, 10, 10))], heading="x")


def test_three_or_five_clicks_are_numbered():
    points = np.zeros((5, 2)) + 50
    assert draw_problem_sheet([record(points), record(points[:3])], heading="x").any()


@pytest.mark.parametrize("wrong", [{"columns": 0}, {"tile": 8}, {"records": []}])
def test_a_sheet_of_nothing_is_refused(wrong):
    fields = {"records": [record()], "heading": "x"} | wrong
    with pytest.raises(ValueError, match="at least one record"):
        draw_problem_sheet(**fields)


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "new" / "sheet.png"
    write_problem_sheet(path, [record()], heading="x")
    assert [found.name for found in path.parent.iterdir()] == ["sheet.png"]
    with Image.open(path) as sheet:
        assert sheet.size[0] > 200


# The view


def test_a_view_shows_the_pixels_around_the_box():
    image = noise()
    image[20:30, 30:40] = (10, 200, 10)
    view, points, box = look_at(image, None, (30, 20, 40, 30), side=240)
    assert points is None
    assert view.shape == (240, 240, 3)
    x0, y0, x1, y1 = (round(edge) for edge in box)
    inner = view[y0 + 12 : y1 - 12, x0 + 12 : x1 - 12].reshape(-1, 3)
    assert (inner == (10, 200, 10)).all()
    assert not (view[y0 - 12, x0 - 12] == (10, 200, 10)).all()


def test_a_point_is_the_middle_of_its_pixel():
    image = np.zeros((60, 80, 3), np.uint8)
    image[25, 35] = 255
    view, points, _ = look_at(image, np.array([[35, 25]]), None, side=240)
    rows, columns = np.nonzero(view[..., 0] > 128)
    np.testing.assert_allclose(
        [columns.mean() + 0.5, rows.mean() + 0.5], points[0], atol=1
    )


def test_the_aspect_is_kept():
    _, _, box = look_at(noise(), None, (10, 20, 70, 40), side=300)
    assert (box[2] - box[0]) / (box[3] - box[1]) == pytest.approx(3)


def test_what_is_no_image_is_hatched_grey():
    view, _, _ = look_at(noise(), None, (-40, -40, 10, 10), side=200)
    assert view[20, 20].min() >= 200
    assert view[-20, -20].max() < 100


def test_without_coordinates_the_whole_image_is_shown():
    image = noise()
    nothing = np.full((4, 2), np.nan)
    for points, box in ((None, None), (nothing, (np.nan, 0, 1, 1))):
        view, *_ = look_at(image, points, box, side=400)
        dark = (view.max(axis=-1) < 100).mean()
        assert dark == pytest.approx(60 / 80, abs=0.02)


def test_a_far_point_does_not_shrink_the_image_to_nothing():
    points = np.array([[40.0, 1e7], [30, 30], [40, 40], [50, 30]])
    view, moved, _ = look_at(noise(), points, None, side=300)
    assert (view.max(axis=-1) < 100).mean() > 0.05
    assert moved[0, 1] > 300


finite = st.floats(-300, 300)
anything = finite | st.sampled_from([np.nan, np.inf, -np.inf, 1e18])


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    points=st.none() | st.lists(st.tuples(anything, anything), min_size=1, max_size=5),
    box=st.none() | st.tuples(anything, anything, anything, anything),
)
def test_any_coordinates_give_a_view(size, points, box):
    points = None if points is None else np.array(points, float)
    view, moved, _ = look_at(noise(*size), points, box, side=60)
    assert view.shape == (60, 60, 3) and view.dtype == np.uint8
    assert (moved is None) == (points is None)


def test_a_view_of_a_huge_image_touches_few_pixels():
    image = np.broadcast_to(np.uint8(7), (200_000, 200_000, 3))
    view, *_ = look_at(image, None, (0, 0, 200_000, 200_000), side=60)
    assert (view == 7).all(axis=-1).mean() == pytest.approx(1 / 1.5**2, abs=0.05)
