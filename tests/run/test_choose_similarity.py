import jax.numpy as jnp
import numpy as np
import pytest

from exits_jax.run.choose_similarity import mean_of_batches, mean_of_crops
from exits_jax.train.window import TooManyUnreadable


def test_rows_whose_image_is_gone_do_not_count():
    values = jnp.array([jnp.nan, 1.0, 2.0, 9.0])
    valid = jnp.array([False, True, True, False])
    assert mean_of_crops(values, valid) == 1.5


def test_a_whole_batch_has_the_mean_of_its_rows():
    values = jnp.array(np.random.default_rng(0).random(7, np.float32))
    assert mean_of_crops(values, jnp.ones(7, bool)) == jnp.mean(values)


def test_a_batch_without_any_image_does_not_count():
    blank, whole, half = [np.nan, np.nan, 0.0], [0.5, 0.25, 1.0], [0.25, 0.25, 0.5]
    assert mean_of_batches(list(map(np.array, (blank, whole, half)))) == [0.375, 0.25]


def test_layers_are_not_chosen_by_blank_crops():
    with pytest.raises(TooManyUnreadable, match="none of its images"):
        mean_of_batches([np.array([np.nan, np.nan, 0.0])])
