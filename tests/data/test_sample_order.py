import numpy as np
import pytest
from PIL import Image

from exits_jax.data.batches import train_batches
from exits_jax.data.records import Instance
from exits_jax.data.sample_order import batch_indices
from exits_jax.data.samples import CropOptions

BOX = (4.0, 6.0, 30.0, 28.0)


@pytest.fixture(scope="module")
def instances(tmp_path_factory):
    """Seven objects in one image."""
    path = tmp_path_factory.mktemp("images") / "0.png"
    Image.fromarray(np.zeros((36, 44, 3), np.uint8)).save(path)
    return [
        Instance(100 + i, 0, 1, str(path), (36, 44), None, BOX, False, ())
        for i in range(7)
    ]


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("start_step", [0, 5])
def test_the_rows_of_a_step_are_those_of_its_batch(instances, seed, start_step):
    """Batches of four of seven objects: they span epochs, whose orders differ."""
    batches = train_batches(
        instances,
        CropOptions(crop_size=16),
        seed=seed,
        global_batch=4,
        start_step=start_step,
        num_steps=6,
        num_threads=0,
    )
    for step, batch in enumerate(batches, start_step):
        indices = batch_indices(7, seed=seed, global_batch=4, step=step)
        np.testing.assert_array_equal(indices, batch["index"])


def test_steps_are_shuffled():
    first = batch_indices(100, seed=0, global_batch=10, step=0)
    assert first.tolist() != list(range(10))
    other = batch_indices(100, seed=1, global_batch=10, step=0)
    assert first.tolist() != other.tolist()
