"""Extreme point supervised instance segmentation in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exits_jax.predict.predictor import Predictor as Predictor

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`Predictor`, which loads JAX, when it is asked for."""
    if name == "Predictor":
        return importlib.import_module("exits_jax.predict.predictor").Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
