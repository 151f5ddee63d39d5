"""One rule of a conversion, and the layouts that rules change."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

PARTS = ("query", "key", "value")  # of a fused projection, in the order it stacks them


class Rule(NamedTuple):
    """Where one kind of source tensor goes, and how its layout changes."""

    source: str  # regular expression on the whole source name
    target: str | None  # replacement, "/" between levels; None drops the tensor
    layout: Callable[[np.ndarray], np.ndarray]
    part: int | None = None  # given: the source is this one of the `PARTS`


def same(x: np.ndarray) -> np.ndarray:
    """Keeps the layout."""
    return x


def linear(x: np.ndarray) -> np.ndarray:
    """[out, in] -> [in, out]."""
    return x.transpose(1, 0)


def conv(x: np.ndarray) -> np.ndarray:
    """[out, in, height, width] -> [height, width, in, out]."""
    return x.transpose(2, 3, 1, 0)


def positions(x: np.ndarray) -> np.ndarray:
    """[1, 1 + n, d] -> [1 + n, d]; row 0 belongs to the class token."""
    return x.squeeze(0)


def positions_without_distillation(x: np.ndarray) -> np.ndarray:
    """[1, 2 + n, d] -> [1 + n, d]; row 1 belonged to the distillation token."""
    return np.delete(x.squeeze(0), 1, axis=0)


def from_heads(x: np.ndarray) -> np.ndarray:
    """[heads, d, out] -> [heads * d, out]."""
    heads, dim, out = x.shape
    return x.reshape(heads * dim, out)


def to_heads(x: np.ndarray) -> np.ndarray:
    """[in, heads, d] -> [in, heads * d]."""
    size, heads, dim = x.shape
    return x.reshape(size, heads * dim)


def flat_heads(x: np.ndarray) -> np.ndarray:
    """[heads, d] -> [heads * d]."""
    heads, dim = x.shape
    return x.reshape(heads * dim)


# A block's number: at most 999, which bounds what a broken name can ask for.
INDEX = r"(0|[1-9][0-9]{0,2})"


def under(prefix: str, rules: Iterable[Rule], target: str = "") -> tuple[Rule, ...]:
    """The rules for names behind a prefix (without groups that capture)."""
    return tuple(
        rule._replace(
            source=prefix + rule.source,
            target=None if rule.target is None else target + rule.target,
        )
        for rule in rules
    )
