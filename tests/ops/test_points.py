import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exits_jax.ops.points import initial_points
from tests.support import reference

CROP, PATCH = 64, 16  # a grid of 4 x 4
WHOLE = (0, 0, CROP, CROP)
few = settings(deadline=None, max_examples=40)


def initial(points, box, valid_region=WHOLE, *, has_points=True, **options):
    """The sets of one crop."""
    options = {"inward_margin_px": 0.0} | options
    result = initial_points(
        jnp.asarray(points, jnp.float32)[None],
        jnp.array([has_points]),
        jnp.asarray(box, jnp.float32)[None],
        jnp.asarray(valid_region, jnp.float32)[None],
        crop_size=CROP,
        patch_size=PATCH,
        **options,
    )
    return jax.tree.map(lambda leaf: np.asarray(leaf[0]), result)


def cells(mask):
    return set(np.flatnonzero(mask).tolist())


# Whole pixels: an edge either coincides with that of a cell or misses it clearly.
numbers = st.integers(-5, CROP + 5)


@st.composite
def rectangles(draw):
    x0, y0 = draw(st.integers(0, CROP - 2)), draw(st.integers(0, CROP - 2))
    x1, y1 = draw(st.integers(x0 + 1, CROP)), draw(st.integers(y0 + 1, CROP))
    return x0, y0, x1, y1


extreme_points = hnp.arrays(np.float32, (4, 2), elements=numbers)


@few
@given(
    points=extreme_points,
    box=rectangles(),
    valid_region=rectangles(),
    has_points=st.booleans(),
    background=st.sampled_from(["outside", "centre"]),
    use_padding=st.booleans(),
)
def test_matches_the_reference(points, box, valid_region, has_points, **rules):
    actual = initial(
        points,
        box,
        valid_region,
        has_points=has_points,
        inward_margin_px=6.0,
        **rules,
    )
    fg, bg, unlabeled = reference.initial_points(
        points,
        has_points,
        box,
        valid_region,
        crop_size=CROP,
        patch_size=PATCH,
        delta=6,
        **rules,
    )
    assert cells(actual.fg) == set(fg)
    assert cells(actual.bg) == bg
    assert cells(actual.unlabeled) == unlabeled
    for cell in range(16):
        assert actual.fg_start[cell] == fg.count(cell) / 4
        expected = 1 / len(bg) if cell in bg else 0
        assert actual.bg_start[cell] == np.float32(expected)


@few
@given(points=extreme_points, box=rectangles(), valid_region=rectangles())
def test_the_three_sets_are_disjoint(points, box, valid_region):
    sets = initial(points, box, valid_region)
    total = sets.fg.astype(int) + sets.bg.astype(int) + sets.unlabeled.astype(int)
    assert total.max() <= 1


@few
@given(points=extreme_points, box=rectangles())
def test_a_crop_without_padding_leaves_no_point_out(points, box):
    sets = initial(points, box)
    assert (sets.fg | sets.bg | sets.unlabeled).all()


def test_extreme_points_move_towards_the_centre():
    # Top, left, bottom, right on the rim of the crop; y points down.
    points = [(32, 0), (0, 32), (32, 63), (63, 32)]
    rim = initial(points, WHOLE)
    assert cells(rim.fg) == {2, 8, 14, 11}
    inward = initial(points, WHOLE, inward_margin_px=16.0)
    assert cells(inward.fg) == {6, 9, 10}


def test_two_extreme_points_in_one_cell_count_twice():
    sets = initial([(8, 8), (8, 8), (8, 40), (40, 8)], WHOLE)
    np.testing.assert_array_equal(sets.fg_start[[0, 8, 2]], [0.5, 0.25, 0.25])
    assert sets.fg_start.sum() == 1


def test_points_beyond_the_crop_are_clipped_into_it():
    sets = initial([(-9, -9), (64, 64), (999, -1), (-1, 999)], WHOLE)
    assert cells(sets.fg) == {0, 15, 3, 12}


def test_an_object_with_a_box_alone_has_no_foreground_seeds():
    sets = initial(np.zeros((4, 2)), (16, 16, 48, 48), has_points=False)
    assert not sets.fg.any() and not sets.fg_start.any()
    assert cells(sets.unlabeled) == {5, 6, 9, 10}


def test_a_cell_that_touches_the_box_is_inside_only_if_they_share_area():
    flush = initial(np.full((4, 2), 32), (16, 16, 48, 48))
    assert cells(flush.bg) == set(range(16)) - {5, 6, 9, 10}
    wider = initial(np.full((4, 2), 32), (15, 16, 48, 48))
    assert cells(flush.bg) - cells(wider.bg) == {4, 8}


def test_the_centre_rule_gives_straddling_cells_to_the_background():
    box = (10, 0, 64, 64)  # left column straddles; its centres at x = 8 are outside
    outside = initial(np.full((4, 2), 40), box)
    centre = initial(np.full((4, 2), 40), box, background="centre")
    assert cells(outside.bg) == set()
    assert cells(centre.bg) == {0, 4, 8, 12}


def test_padding_is_neither_background_nor_unlabeled():
    sets = initial(np.full((4, 2), 20), (16, 16, 32, 32), (0, 0, 48, 64))
    padding = {3, 7, 11, 15}
    assert not padding & (cells(sets.bg) | cells(sets.unlabeled))
    used = initial(
        np.full((4, 2), 20), (16, 16, 32, 32), (0, 0, 48, 64), use_padding=True
    )
    assert padding <= cells(used.bg)


def test_a_cell_that_is_partly_padding_is_not_background():
    sets = initial(np.full((4, 2), 20), (16, 16, 32, 32), (0, 0, 60, 64))
    assert not {3, 7, 11, 15} & cells(sets.bg)


def test_an_object_that_fills_its_image_takes_padding_for_background():
    image = (16, 16, 48, 48)
    sets = initial(np.full((4, 2), 32), image, image)
    assert cells(sets.bg) == set(range(16)) - {5, 6, 9, 10}


def test_an_object_that_fills_its_crop_has_an_empty_finite_background():
    sets = initial(np.full((4, 2), 32), WHOLE)
    assert not sets.bg.any()
    np.testing.assert_array_equal(sets.bg_start, 0)


def test_a_seed_outside_the_box_is_foreground_all_the_same():
    # A margin wider than the object carries a seed over the opposite edge.
    sets = initial([(8, 8)] * 4, (0, 0, 16, 16), inward_margin_px=16.0)
    assert {4, 1} <= cells(sets.fg)
    assert not sets.bg[[4, 1]].any()


def test_an_empty_box_makes_no_candidates_but_the_cell_it_lies_in():
    sets = initial(np.zeros((4, 2)), (20, 20, 20, 20), has_points=False)
    assert len(cells(sets.unlabeled)) <= 1
    assert np.isfinite(sets.bg_start).all()


def test_rejects_an_unknown_background_rule():
    with pytest.raises(ValueError, match="Unknown background rule 'far'; known: out"):
        initial(np.zeros((4, 2)), WHOLE, background="far")
