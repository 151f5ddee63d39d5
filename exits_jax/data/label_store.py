"""Labels made once per object: a column of bytes on disk, read row by row.

A row holds two square maps of the object's label crop, one after the other: the walk's
probability of each patch, and the refined mask that it becomes. Probabilities are
stored in 255ths.
"""

from pathlib import Path
from typing import Any

import numpy as np

from exits_jax.batch import Batch


class LabelStore:
    """Rows of labels, mapped into memory when the first is read.

    It travels to worker processes as the name of its file.
    """

    def __init__(self, path: Path, *, grid: int, mask_grid: int):
        """Reads nothing yet.

        Args:
            path: An .npy file of rows, uint8 [objects, grid^2 + mask_grid^2].
            grid: Patches along a side of a crop.
            mask_grid: Cells along a side of the refined mask.
        """
        self._path, self._grid, self._mask_grid = path, grid, mask_grid
        self._rows: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the mapped memory, which would be copied."""
        return self.__dict__ | {"_rows": None}

    def read(self, index: int) -> Batch:
        """The maps of an object: "stored_walk" and "stored_mask"."""
        rows = self._rows
        if rows is None:
            rows = self._rows = np.load(self._path, mmap_mode="r")
        return self.split(np.array(rows[index]))

    def blank(self) -> Batch:
        """Maps of a row to leave out."""
        size = self._grid**2 + self._mask_grid**2
        return self.split(np.zeros(size, np.uint8))

    def split(self, row: np.ndarray) -> Batch:
        """The two maps of a row."""
        walk, mask = np.split(row, [self._grid**2])
        return {
            "stored_walk": walk.reshape(self._grid, self._grid),
            "stored_mask": mask.reshape(self._mask_grid, self._mask_grid),
        }
