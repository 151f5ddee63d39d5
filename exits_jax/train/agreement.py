"""What the processes of a run decide together."""

import jax
import numpy as np
from jax.experimental import multihost_utils


def all_agree(opinion: bool) -> bool:
    """Whether every process says yes; all have to ask at the same time.

    What goes wrong in one process alone (a lost file, a full disk) must not lead it
    elsewhere than the others: each would wait for the other for ever.
    """
    if jax.process_count() == 1:
        return opinion
    return bool(np.all(multihost_utils.process_allgather(np.array(opinion))))
