import math

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from exits_jax.data.extremenet import extremenet_points
from exits_jax.data.masks import decode_mask
from exits_jax.data.records import AnnotationError
from tests.support.coded_masks import coded, listed

masks = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))).filter(
    np.any
)


@settings(deadline=None, max_examples=100)
@given(mask=masks, as_bytes=st.booleans())
def test_compressed_rle_decodes_to_its_mask(mask, as_bytes):
    rle = coded(mask)
    if as_bytes:
        rle["counts"] = rle["counts"].encode()
    np.testing.assert_array_equal(decode_mask(rle, *mask.shape), mask)


@settings(deadline=None, max_examples=50)
@given(mask=masks)
def test_uncompressed_rle_decodes_to_its_mask(mask):
    decoded = decode_mask(listed(mask), *mask.shape)
    np.testing.assert_array_equal(decoded, mask)


def test_long_runs_survive_compression():
    mask = np.zeros((600, 700), bool)
    mask[100:400, 50] = mask[5:9, 600:] = True
    np.testing.assert_array_equal(decode_mask(coded(mask), 600, 700), mask)


def test_polygons_are_united():
    mask = decode_mask([[0, 0, 4, 0, 4, 4, 0, 4], [6, 6, 9, 6, 9, 9, 6, 9]], 10, 10)
    expected = np.zeros((10, 10), bool)
    expected[:4, :4] = expected[6:9, 6:9] = True
    np.testing.assert_array_equal(mask, expected)


NAN = float("nan")


@pytest.mark.parametrize(
    ("segmentation", "code", "words"),
    [
        ([[1, 2, 3, 4, 5]], "E212", "polygon 1 of 1 .* has 5 numbers"),
        ([[1, 2, 3, 4]], "E212", "at least 3 vertices"),
        ([[]], "E212", "has 0 numbers"),
        ([[1, 1, 5, 1, 5, NAN]], "E212", "not finite or far outside its 10x8 image"),
        ([[NAN, 1, 5, 1, 5, 5]], "E212", "not finite or far outside"),
        ([[1, 1, 5, NAN, 5, 5]], "E212", "not finite or far outside"),
        ([[1, 1, 5, NAN, 5, 10**400]], "E212", "not finite or far outside"),
        ([[1, 1, 5, -math.inf, 5, 5]], "E212", "not finite or far outside"),
        ([[1, 1, 5, 1, True, 5]], "E212", "something that is not a number"),
        ([[1, 1, 5, 1, 5, 1e9]], "E212", "not finite or far outside"),
        ([[1, 1, 5, 1, 5, 10**400]], "E212", "not finite or far outside"),
        ([[1, 1, 5, 1, 5, "5"]], "E212", "something that is not a number"),
        ([1, 1, 5, 1, 5, 5], "E212", r"is 1; expected \[x1, y1"),
        ("abc", "E212", "expected polygons or an RLE"),
        ([[11, 1, 14, 1, 14, 5]], "E213", "its mask"),
        ({"size": [10, 8], "counts": [80]}, "E211", r"the size \[10, 8\]; expected"),
        ({"counts": [80]}, "E211", "the size None"),
        ({"size": [8, 10]}, "E211", "its RLE counts are None"),
        ({"size": [8, 10], "counts": [1.5, 2]}, "E211", "whole numbers"),
        ({"size": [8, 10], "counts": [79]}, "E211", "sum to 79; expected 80"),
        ({"size": [8, 10], "counts": [90, -10]}, "E211", "not negative"),
        ({"size": [8, 10], "counts": []}, "E211", "sum to 0"),
        ({"size": [8, 10], "counts": ""}, "E211", "not a whole RLE"),
        ({"size": [8, 10], "counts": "ü!"}, "E211", "not a whole RLE"),
        ({"size": [8, 10], "counts": "00P"}, "E211", "not a whole RLE"),
        ({"size": [8, 10], "counts": "o" * 9 + "0"}, "E211", "too long a number"),
        ({"size": [8, 10], "counts": [80]}, "E213", "its mask is empty"),
    ],
)
def test_malformed_mask_is_refused(segmentation, code, words):
    for function in (decode_mask, extremenet_points):
        with pytest.raises(AnnotationError, match=words) as caught:
            function(segmentation, 8, 10)
        assert caught.value.problems[0].code == code


def test_absurd_image_size_is_refused_before_memory_is_asked_for():
    rle = {"size": [10**6, 10**6], "counts": [0, 10**12]}
    with pytest.raises(AnnotationError, match="too large to decode"):
        decode_mask(rle, 10**6, 10**6)


def zigzag(vertices, width, height):
    """A polygon that crosses its image from side to side, again and again."""
    sides = [value for k in range(vertices) for value in (k % 2 * width, k % height)]
    return [*sides, 0, height]


@pytest.mark.parametrize("side", [96, 8000])
@pytest.mark.parametrize("function", [decode_mask, extremenet_points])
def test_outlines_longer_than_any_mask_needs_are_refused(side, function):
    with pytest.raises(AnnotationError, match=r"outlines .* are \d+ px long") as caught:
        function([zigzag(2000, side, side)] * 2, side, side)
    assert caught.value.problems[0].code == "E212"


def test_an_outline_around_every_pixel_is_allowed():
    pixels = [(x, y) for x in range(0, 300, 2) for y in range(0, 300, 2)]
    squares = [[x, y, x + 1, y, x + 1, y + 1, x, y + 1] for x, y in pixels]
    mask = decode_mask(squares, 300, 300)
    assert mask[::2, ::2].all() and mask.sum() == len(pixels)


@settings(deadline=None, max_examples=200)
@given(counts=st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=9))
def test_any_compressed_string_gives_a_mask_or_an_error(counts):
    try:
        assert decode_mask({"size": [8, 10], "counts": counts}, 8, 10).any()
    except AnnotationError as error:
        assert error.problems[0].code in {"E211", "E213"}
