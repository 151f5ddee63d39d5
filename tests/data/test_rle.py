import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from exits_jax.data import rle


def ring():
    ys, xs = np.mgrid[:30, :40]
    distance = np.hypot(ys - 14, xs - 20)
    return (distance < 12) & (distance > 5)


@pytest.mark.parametrize(
    "mask", [ring(), np.zeros((3, 5), bool), np.ones((5, 3), bool), np.eye(7) > 0]
)
def test_decoding_gives_the_encoded_mask_back(mask):
    packed = json.loads(json.dumps(rle.encode(mask)))
    np.testing.assert_array_equal(rle.decode(packed), mask)


def test_area_and_box_are_those_of_the_mask():
    packed = rle.encode(ring())
    assert rle.area(packed) == ring().sum()
    assert rle.bounding_box(packed) == [9, 3, 23, 23]


@given(
    arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))),
    st.tuples(*[st.integers(0, 3)] * 4),
)
def test_a_part_of_an_image_has_the_run_lengths_of_the_whole(part, around):
    left, top, right, bottom = around
    whole = np.pad(part, ((top, bottom), (left, right)))
    packed = rle.encode_part(part, left=left, top=top, image_size=whole.shape)
    assert packed == rle.encode(whole)


def test_refuses_a_mask_of_probabilities():
    with pytest.raises(ValueError, match=r"bool \[height, width\], got float64"):
        rle.encode(np.ones((4, 4)))
