import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exits_jax.ops.clicks import (
    click_discs,
    click_wedges,
    clicks_or_midpoints,
    polygon_depth,
)
from tests.support import reference

SIZE, GRID = 64, 8
BOX = (12.0, 10.0, 52.0, 56.0)
CLICKS = ((30.0, 10.5), (12.5, 40.0), (24.0, 55.5), (51.5, 20.0))
few = settings(max_examples=30)
quarters = st.integers(0, 4 * SIZE).map(lambda number: number / 4)


@st.composite
def clicked_boxes(draw):
    """A box of 8 px or more and a click on each of its sides."""
    x0, y0 = draw(st.integers(0, 40)), draw(st.integers(0, 40))
    x1, y1 = draw(st.integers(x0 + 8, SIZE)), draw(st.integers(y0 + 8, SIZE))
    along_x = st.integers(4 * x0, 4 * x1).map(lambda number: number / 4)
    along_y = st.integers(4 * y0, 4 * y1).map(lambda number: number / 4)
    clicks = ((draw(along_x), y0), (x0, draw(along_y)))
    clicks += ((draw(along_x), y1), (x1, draw(along_y)))
    return clicks, (x0, y0, x1, y1)


def as_batch(*values):
    return (jnp.asarray([value], jnp.float32) for value in values)


def depth_of(clicks, box=BOX):
    depth = polygon_depth(*as_batch(clicks, box), crop_size=SIZE, grid=GRID)
    return np.asarray(depth[0])


def discs_of(clicks, box=BOX, margin=3.0, radius=0.7):
    discs = click_discs(
        *as_batch(clicks, box),
        crop_size=SIZE,
        grid=GRID,
        inward_margin_px=margin,
        radius=radius,
    )
    return np.asarray(discs[0])


def centres():
    at = (np.arange(GRID) + 0.5) * SIZE / GRID
    return [(float(x), float(y)) for y in at for x in at]


@few
@given(clicks=st.lists(st.tuples(quarters, quarters), min_size=4, max_size=4))
def test_depth_matches_the_reference_for_any_four_points(clicks):
    expected = reference.quadrilateral_depth(clicks, BOX, SIZE, GRID)
    np.testing.assert_allclose(depth_of(clicks), expected, rtol=1e-4, atol=1e-4)


@few
@given(drawn=clicked_boxes())
def test_depth_inside_is_the_distance_to_the_outline(drawn):
    clicks, box = drawn
    outline = np.array([clicks[i] for i in (0, 3, 2, 1)], np.float32)
    unit = 0.5 * np.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    for at, depth in zip(centres(), depth_of(clicks, box).ravel(), strict=True):
        distance = cv2.pointPolygonTest(outline, at, True)
        assert (depth > 1e-3) == (distance > 1e-3 * unit) or abs(depth) < 2e-3
        if distance > 0:
            assert depth * unit == pytest.approx(distance, abs=1e-2)


def test_swapped_clicks_have_a_finite_depth_that_is_nowhere_positive():
    top, left, bottom, right = CLICKS
    depth = depth_of((top, right, bottom, left))
    assert np.isfinite(depth).all() and (depth <= 0).all()


def test_four_clicks_in_one_place_have_no_depth():
    np.testing.assert_array_equal(depth_of([(30.0, 30.0)] * 4), 0)


@few
@given(drawn=clicked_boxes(), margin=st.floats(0, 6), radius=st.floats(0.5, 2))
def test_discs_match_the_reference(drawn, margin, radius):
    clicks, box = drawn
    inward = ((0, margin), (margin, 0), (0, -margin), (-margin, 0))
    actual = discs_of(clicks, box, margin, radius)
    for disc, (x, y), (dx, dy) in zip(actual, clicks, inward, strict=True):
        expected = reference.disc(x + dx, y + dy, box, SIZE, GRID, radius)
        np.testing.assert_allclose(disc, expected, rtol=1e-3, atol=1e-6)


@few
@given(drawn=clicked_boxes())
def test_a_disc_is_a_distribution_over_cells_of_the_box(drawn):
    clicks, box = drawn
    discs = discs_of(clicks, box)
    np.testing.assert_allclose(discs.sum(axis=1), 1, rtol=1e-5)
    for cell, (x, y) in enumerate(centres()):
        if not (box[0] <= x <= box[2] and box[1] <= y <= box[3]):
            assert (discs[:, cell] == 0).all()


def test_a_disc_without_a_cell_in_the_box_is_empty():
    np.testing.assert_array_equal(discs_of(CLICKS, (13.0, 13.0, 15.0, 15.0)), 0)


def test_the_clicks_of_a_box_alone_are_the_middles_of_its_sides():
    points, box = as_batch(np.full((4, 2), np.nan), BOX)
    middles = clicks_or_midpoints(points, jnp.zeros((1, 4), bool), box)[0]
    np.testing.assert_array_equal(middles, [(32, 10), (12, 33), (32, 56), (52, 33)])


def test_clicks_stay_where_they_were_made():
    points, box = as_batch(CLICKS, BOX)
    kept = clicks_or_midpoints(points, jnp.ones((1, 4), bool), box)
    np.testing.assert_array_equal(kept, points)


def test_other_clicks_are_not_compiled_again():
    traces = []

    def traced(points, box):
        traces.append(1)
        return polygon_depth(points, box, crop_size=SIZE, grid=GRID)

    once = jax.jit(traced)
    for shift in (0.0, 2.5):
        points, box = as_batch(np.add(CLICKS, shift), np.add(BOX, shift))
        np.testing.assert_allclose(
            once(points, box)[0],
            depth_of(np.add(CLICKS, shift), np.add(BOX, shift)),
            rtol=1e-5,
            atol=1e-5,
        )
    assert len(traces) == 1


def wedges_of(clicks=CLICKS, box=BOX, depth=0.2, has_points=True, grid=4 * GRID):
    points, box = as_batch(clicks, box)
    wedges = click_wedges(
        points, jnp.array([has_points]), box, crop_size=SIZE, grid=grid, depth=depth
    )
    return np.asarray(wedges[0])


def test_one_click_alone_is_kept_where_another_is_hidden():
    points, box = as_batch(CLICKS, BOX)
    shown = jnp.array([[True, False, True, True]])
    kept = clicks_or_midpoints(points, shown, box)[0]
    np.testing.assert_array_equal(kept[1], (12.0, 33.0))
    np.testing.assert_array_equal(kept[2:], points[0, 2:])


@few
@given(drawn=clicked_boxes())
def test_every_click_lies_in_its_wedge(drawn):
    clicks, box = drawn
    wedges = wedges_of(clicks, box, grid=4 * SIZE)
    inward = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
    for (x, y), (dx, dy) in zip(clicks, inward, strict=True):
        column, row = (int(4 * v) for v in (x + 0.01 * dx, y + 0.01 * dy))
        column, row = min(column, 4 * SIZE - 1), min(row, 4 * SIZE - 1)
        near = wedges[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        assert near.any()


def test_a_wedge_opens_by_one_for_every_two_inwards():
    box = (0.0, 0.0, 64.0, 64.0)
    clicks = ((32.0, 0.0), (0.0, 32.0), (32.0, 64.0), (64.0, 32.0))
    wedges = wedges_of(clicks, box, depth=0.25, grid=64)
    widths = wedges[:8].sum(axis=1)  # of the top one: no other reaches so far up
    expected = [2 * (0.025 * 64 + 0.5 * (row + 0.5)) for row in range(8)]
    np.testing.assert_allclose(widths, expected, atol=1)


def test_wedges_end_at_their_depth_and_a_box_alone_has_none():
    around_top = wedges_of(depth=0.2)[: 2 * GRID, 10:20]  # the upper half alone
    rows = (np.flatnonzero(around_top.any(axis=1)) + 0.5) * SIZE / (4 * GRID)
    assert 10.5 - 0.025 * 46 < rows.min() and rows.max() < 10.5 + 0.2 * 46
    assert not wedges_of(has_points=False).any()
    assert not wedges_of(depth=0.0).any()
