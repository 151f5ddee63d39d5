"""Which objects the device predicts, in which order, and who needs whom."""

from collections.abc import Sequence
from typing import NamedTuple

import ml_collections as mlc
import numpy as np

from exits_jax.data.table import Instances
from exits_jax.labeling.layers import Rivals

_NONE = np.zeros(0, np.int64)


class Plan(NamedTuple):
    """Objects to predict; a place is a position in `rows`."""

    rows: np.ndarray  # int [n], of the split; some more than once
    is_wanted: np.ndarray  # bool [n]; others are there for the sake of these
    rivals: dict[int, np.ndarray]  # places of a wanted one's rivals, if it has any

    def needed(self, place: int) -> list[int]:
        """The places that a mask is made from, its own first."""
        return [place, *self.rivals.get(place, _NONE).tolist()]

    def last_uses(self) -> np.ndarray:
        """The last wanted place that needs each place; -1: none does."""
        last = np.where(self.is_wanted, np.arange(len(self.rows)), -1)
        for place, rivals in self.rivals.items():
            last[rivals] = np.maximum(last[rivals], place)
        return last


def in_blocks(num_objects: int, size: int) -> list[range]:
    """Consecutive objects in blocks of a size; the last may have fewer."""
    starts = range(0, num_objects, size)
    return [range(start, min(start + size, num_objects)) for start in starts]


def planned(
    config: mlc.ConfigDict, objects: Instances, blocks: Sequence[range]
) -> Plan:
    """What to predict for the masks of some blocks of objects.

    With `generate.layers` the rivals of a block's objects come after it, and repeats
    fill it up to whole batches: what is predicted for a block does not depend on the
    blocks beside it.
    """
    if not config.generate.layers:
        rows = np.concatenate([_NONE, *map(np.array, blocks)]).astype(np.int64)
        return Plan(rows, np.ones(len(rows), bool), {})
    find, batch = Rivals(objects), config.generate.batch_size
    rows, is_wanted, rivals = [], [], {}
    for block in blocks:
        found = {row: find.of(row) for row in block}
        others = np.setdiff1d(np.concatenate([_NONE, *found.values()]), block)
        size = len(block) + len(others)
        padding = [block[0]] * (-size % batch if len(others) else 0)
        offset = len(rows)
        places = {int(row): offset + k for k, row in enumerate((*block, *others))}
        for row, of_it in found.items():
            if len(of_it):
                rivals[places[row]] = np.array([places[int(r)] for r in of_it])
        rows += [*block, *others.tolist(), *padding]
        is_wanted += [True] * len(block) + [False] * (len(others) + len(padding))
    return Plan(np.array(rows, np.int64), np.array(is_wanted, bool), rivals)
