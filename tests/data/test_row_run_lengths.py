import hypothesis.extra.numpy as arrays
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from exits_jax.data.row_run_lengths import row_runs

MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7)))


@settings(max_examples=200, deadline=None)
@given(MASKS, st.tuples(*[st.integers(0, 3)] * 4))
def test_runs_laid_out_in_turn_give_the_image(mask, margins):
    left, top, right, bottom = margins
    image = np.pad(mask, ((top, bottom), (left, right)))
    height, width = image.shape
    runs = row_runs(mask, left=left, top=top, width=width, height=height)
    pixels = [bool(k % 2) for k, run in enumerate(runs) for _ in range(run)]
    assert pixels == image.ravel().tolist()
    assert all(run > 0 for run in runs[1:])
