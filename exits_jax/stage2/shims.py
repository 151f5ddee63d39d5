"""What the frozen mmengine and lvis need beside today's PyTorch and NumPy."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

_STATISTICS = ("min", "max", "mean", "current")


def allow_own_checkpoints() -> None:
    """Lets PyTorch read back what mmengine writes into a checkpoint.

    Beside tensors, that is the history of the losses. PyTorch still refuses anything
    else that a file names, so that nothing in it is run.
    """
    numbers = [type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "u4", "b1")]
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            np.ndarray,
            np.dtype,
            np._core.multiarray._reconstruct,
            np._core.multiarray.scalar,
            (_statistic, "builtins.getattr"),
            *numbers,
        ]
    )


def _statistic(owner: object, name: str) -> object:
    """Stands in for `getattr`, which a history names its statistics with."""
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise ValueError(f"A checkpoint asks for {name!r} of {owner!r}.")
    return getattr(owner, name)


@contextlib.contextmanager
def numpy_float() -> Iterator[None]:
    """Gives NumPy back its old name of `float`, which the lvis package asks for."""
    if hasattr(np, "float"):
        yield
        return
    setattr(np, "float", float)  # noqa: B010 - type checkers know no such name
    try:
        yield
    finally:
        delattr(np, "float")
