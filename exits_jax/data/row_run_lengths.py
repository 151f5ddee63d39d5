"""Run lengths along the rows of an image, as annotation tools write masks."""

import numpy as np


def row_runs(
    mask: np.ndarray, *, left: int, top: int, width: int, height: int
) -> list[int]:
    """Run lengths of a mask within a larger image, row by row.

    Args:
        mask: bool [h, w], the part of the image that holds all of the object.
        left: Column of the image that the mask's first column is.
        top: Row of the image that the mask's first row is.
        width: Width of the image.
        height: Height of the image.

    Returns:
        Lengths that alternate, background first (0 if the first pixel is of the
        object); they sum to width x height. No other length is 0.
    """
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), bool)
    padded[:, 1:-1] = mask
    steps = np.flatnonzero(padded[:, 1:] != padded[:, :-1])
    # Starts and ends in turn, row by row.
    rows, columns = np.divmod(steps, mask.shape[1] + 1)
    edges = (top + rows) * width + left + columns
    # A run that reaches the right border goes on in the next row.
    goes_on = 2 * np.flatnonzero(edges[1:-1:2] == edges[2::2]) + 1
    edges = np.delete(edges, np.concatenate([goes_on, goes_on + 1]))
    runs = np.diff(edges, prepend=0, append=width * height).tolist()
    return runs[:-1] if runs[-1] == 0 and len(runs) > 1 else runs
