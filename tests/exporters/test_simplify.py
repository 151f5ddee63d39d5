import itertools

import cv2
import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exits_jax.exporters.polygons import INSET, joined, polygons
from exits_jax.exporters.simplify import simplified
from tests.exporters.test_polygons import by_coco
from tests.support import drawn_masks

# pycocotools still uses an array protocol that NumPy 2 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

# Masks of blocks, whose outlines have long edges, staircases and touching corners.
BLOCKS = arrays.arrays(bool, st.tuples(st.integers(2, 7), st.integers(2, 7))).filter(
    np.any
)


def large(blocks, side=8):
    """Each cell as a square, some of its corners cut off."""
    mask = np.kron(blocks, np.ones((side, side), bool))
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2.5) > 0.5
    return soft if soft.any() else mask


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def crossings(ring):
    """Pairs of edges that cross, one after the other."""
    ends = np.roll(ring, -1, axis=0)
    side = lambda a, b, p: (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])
    return [
        (i, j)
        for i, j in itertools.combinations(range(len(ring)), 2)
        if side(ring[i], ends[i], ring[j]) * side(ring[i], ends[i], ends[j]) < 0
        and side(ring[j], ends[j], ring[i]) * side(ring[j], ends[j], ends[i]) < 0
    ]


@settings(max_examples=60, deadline=None)
@given(BLOCKS, st.sampled_from([0.0, INSET]), st.floats(0.5, 20))
def test_no_part_and_no_hole_is_lost(blocks, inset, tolerance):
    mask = large(blocks)
    exact = polygons(mask, inset=inset)
    parts = polygons(mask, inset=inset, tolerance=tolerance)
    assert [part.num_holes for part in parts] == [part.num_holes for part in exact]
    for part, old in zip(parts, exact):
        assert 3 <= len(part.points) <= len(old.points)
        known = set(map(tuple, old.points.tolist()))
        assert known >= set(map(tuple, part.points.tolist()))


@settings(max_examples=60, deadline=None)
@given(BLOCKS, st.floats(0.5, 20))
def test_an_outline_without_holes_does_not_cross_itself(blocks, tolerance):
    for part in polygons(large(blocks), tolerance=tolerance):
        if part.num_holes == 0:
            assert not crossings(part.points)


@settings(max_examples=60, deadline=None)
@given(BLOCKS, st.floats(0.5, 20))
def test_what_is_drawn_stays_near_the_mask(blocks, tolerance):
    mask = large(blocks)
    parts = polygons(mask, tolerance=tolerance)
    assert iou(by_coco(parts, mask.shape), mask) > 0.6
    assert iou(by_coco([joined(parts)], mask.shape), mask) > 0.6


@pytest.mark.parametrize("name", drawn_masks.OBJECTS)
def test_small_and_thin_objects_keep_their_form(name):
    mask = drawn_masks.OBJECTS[name]
    parts = polygons(mask, tolerance=10.0)
    assert iou(by_coco(parts, mask.shape), mask) > 0.8


@pytest.mark.parametrize("tolerance", [0.5, 1.0, 2.0, 5.0])
def test_vertices_that_are_left_out_are_within_the_tolerance(tolerance):
    mask = np.hypot(*(np.mgrid[:200, :200] - 99.5)) < 90
    (exact,) = polygons(mask)
    (part,) = polygons(mask, tolerance=tolerance)
    ring = part.points.astype(np.float32)[:, None]
    far = [
        abs(cv2.pointPolygonTest(ring, tuple(map(float, point)), True))
        for point in exact.points
    ]
    assert max(far) <= tolerance + 1e-3
    assert (len(part.points) < len(exact.points) / 4) == (tolerance >= 1)


def test_the_sense_of_rotation_stays():
    ring = polygons(drawn_masks.disc(40, 30, 25))[0].points
    for given_ring in (ring, ring[::-1]):
        (found,) = simplified([given_ring], 2.0)
        area = lambda p: p[:, 0] @ np.roll(p[:, 1], -1) - p[:, 1] @ np.roll(p[:, 0], -1)
        assert np.sign(area(found)) == np.sign(area(given_ring))


def test_a_hole_beside_a_thin_wall_stays_inside():
    mask = drawn_masks.disc(40, 30, 25) & ~drawn_masks.disc(40, 7.5, 1.6)
    (part,) = polygons(mask, tolerance=6.0)
    assert part.num_holes == 1
    assert iou(by_coco([part], mask.shape), mask) > 0.85
