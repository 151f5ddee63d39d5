"""Which samples a training step sees."""

import grain
import numpy as np


def batch_indices(
    num_samples: int, *, seed: int, global_batch: int, step: int
) -> np.ndarray:
    """Indices of the rows of one step over all processes, as `train_batches` has them.

    Args:
        num_samples: Instances in an epoch.
        seed: Seed of the order.
        global_batch: Rows of a step.
        step: Number of the step, from 0.
    """
    order = grain.MapDataset.range(num_samples).seed(seed).shuffle()
    first = step * global_batch
    return np.array([order[first + row] for row in range(global_batch)])
