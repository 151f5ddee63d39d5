import numpy as np
import pytest

from exits_jax.run.choose_similarity import readable
from exits_jax.train.window import TooManyUnreadable


def test_rows_whose_image_is_gone_are_replaced_by_one_that_is_there():
    rows = np.array([0, 1, 2, 3])
    is_whole = np.array([False, True, True, False])
    np.testing.assert_array_equal(readable(rows, is_whole=is_whole), [1, 1, 2, 1])


def test_layers_are_not_chosen_by_blank_crops():
    with pytest.raises(TooManyUnreadable, match="no image of a batch"):
        readable(np.zeros(3), is_whole=np.zeros(3, bool))
