import cv2
import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from exits_jax.exporters.polygons import INSET, joined, polygons
from tests.support import drawn_masks

# pycocotools still uses an array protocol that NumPy 2 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

SIDES = st.tuples(st.integers(1, 12), st.integers(1, 12))
MASKS = arrays.arrays(bool, SIDES).filter(np.any)
# Few background pixels: holes, and holes in the parts within holes.
FULL_MASKS = SIDES.flatmap(
    lambda shape: arrays.arrays(bool, shape, elements=st.integers(0, 5).map(bool))
).filter(np.any)


def by_coco(outlines, shape):
    rings = [outline.points.ravel().tolist() for outline in outlines]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(rings, *shape))) > 0


def by_cv2(outlines, shape):
    canvas = np.zeros(shape, np.uint8)
    for outline in outlines:
        cv2.fillPoly(canvas, [outline.points.astype(np.int32)], 1)
    return canvas > 0


def by_pillow(outlines, shape):
    canvas = Image.new("1", shape[::-1])
    for outline in outlines:
        corners = [tuple(point) for point in outline.points.tolist()]
        ImageDraw.Draw(canvas).polygon(corners, fill=1, outline=1)
    return np.array(canvas)


def winding_numbers(outline, shape):
    """How often an outline goes around the centre of each pixel."""
    ys, xs = np.mgrid[: shape[0], : shape[1]] + 0.5
    turns = np.zeros(shape, int)
    ends = np.roll(outline.points, -1, axis=0)
    for (x0, y0), (x1, y1) in zip(outline.points, ends):
        side = (x1 - x0) * (ys - y0) - (xs - x0) * (y1 - y0)
        turns += (y0 <= ys) & (y1 > ys) & (side > 0)
        turns -= (y0 > ys) & (y1 <= ys) & (side < 0)
    return turns


@settings(max_examples=200, deadline=None)
@given(st.one_of(MASKS, FULL_MASKS), st.sampled_from([0.0, INSET]))
def test_rasterised_by_pycocotools_polygons_give_the_mask(mask, inset):
    parts = polygons(mask, inset=inset)
    np.testing.assert_array_equal(by_coco(parts, mask.shape), mask)


@settings(max_examples=200, deadline=None)
@given(st.one_of(MASKS, FULL_MASKS), st.sampled_from([0.0, INSET]))
def test_the_joined_polygon_gives_the_mask_as_well(mask, inset):
    outline = joined(polygons(mask, inset=inset))
    np.testing.assert_array_equal(by_coco([outline], mask.shape), mask)


@settings(max_examples=200, deadline=None)
@given(st.one_of(MASKS, FULL_MASKS))
def test_rasterisers_that_draw_outlines_fill_an_inset_polygon_exactly(mask):
    parts = polygons(mask, inset=INSET)
    np.testing.assert_array_equal(by_cv2(parts, mask.shape), mask)
    np.testing.assert_array_equal(by_pillow(parts, mask.shape), mask)


@settings(max_examples=100, deadline=None)
@given(st.one_of(MASKS, FULL_MASKS))
def test_even_odd_and_non_zero_rules_agree(mask):
    for outline in (*polygons(mask), joined(polygons(mask))):
        assert set(np.unique(winding_numbers(outline, mask.shape))) <= {0, 1}


@settings(max_examples=100, deadline=None)
@given(st.one_of(MASKS, FULL_MASKS))
def test_edges_follow_the_lattice_and_no_vertex_is_idle(mask):
    for part in polygons(mask):
        steps = np.roll(part.points, -1, axis=0) - part.points
        assert ((steps == 0).sum(axis=1) == 1).all()
        if part.num_holes == 0:
            is_across = steps[:, 0] != 0
            assert (is_across != np.roll(is_across, 1)).all()


@settings(max_examples=100, deadline=None)
@given(st.one_of(MASKS, FULL_MASKS))
def test_the_areas_of_the_parts_add_up(mask):
    doubled = 0.0
    for part in polygons(mask):
        (x0, y0), (x1, y1) = part.points.T, np.roll(part.points, -1, axis=0).T
        doubled += (x0 * y1 - x1 * y0).sum()
    assert doubled == 2 * mask.sum()


@settings(max_examples=100, deadline=None)
@given(st.one_of(MASKS, FULL_MASKS))
def test_parts_and_holes_are_as_many_as_opencv_counts(mask):
    parts = polygons(mask)
    ones = np.pad(mask, 1).astype(np.uint8)
    num_parts = cv2.connectedComponents(ones, connectivity=4)[0] - 1
    num_empty = cv2.connectedComponents(1 - ones, connectivity=8)[0] - 1
    assert len(parts) == num_parts
    assert sum(part.num_holes for part in parts) == num_empty - 1


def test_a_pixel_is_a_square():
    (part,) = polygons(np.ones((1, 1), bool), left=5, top=3)
    assert part.points.tolist() == [[5, 3], [6, 3], [6, 4], [5, 4]]
    (part,) = polygons(np.ones((1, 1), bool), inset=0.25)
    assert part.points.tolist() == [
        [0.25, 0.25],
        [0.75, 0.25],
        [0.75, 0.75],
        [0.25, 0.75],
    ]


def test_an_empty_mask_has_no_polygon():
    assert polygons(np.zeros((4, 5), bool)) == []


def test_pixels_that_touch_at_a_corner_are_two_parts_without_a_visible_bridge():
    parts = polygons(drawn_masks.touching_corners(), inset=INSET)
    outline = joined(parts)
    assert (len(parts), outline.num_bridges) == (2, 0)
    shape = (drawn_masks.HEIGHT, drawn_masks.WIDTH)
    np.testing.assert_array_equal(
        by_cv2([outline], shape), drawn_masks.touching_corners()
    )


def test_a_bridge_between_distant_parts_is_counted_and_one_pixel_wide():
    parts = polygons(drawn_masks.two_parts(), inset=INSET)
    outline = joined(parts)
    assert (len(parts), outline.num_bridges) == (2, 1)
    extra = (
        by_cv2([outline], (drawn_masks.HEIGHT, drawn_masks.WIDTH))
        & ~drawn_masks.two_parts()
    )
    assert extra.any(axis=0).sum() == extra.sum() == 10  # from one disc to the other


def test_thousands_of_parts_become_one_polygon():
    mask = np.random.default_rng(0).random((300, 300)) < 0.5
    outline = joined(polygons(mask))
    np.testing.assert_array_equal(by_coco([outline], mask.shape), mask)


@pytest.mark.parametrize("inset", [-0.1, 0.5])
def test_refuses_an_inset_that_turns_pixels_inside_out(inset):
    with pytest.raises(ValueError, match="from 0 to below 0.5"):
        polygons(np.ones((2, 2), bool), inset=inset)
