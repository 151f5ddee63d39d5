"""Applies the rules of one kind; all that does not fit is reported together."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .layouts import PARTS, Rule
from .rules import find_rule
from .shapes import expected_shapes


class ConversionError(ValueError):
    """Tensors that do not fit; `problems` has one line for each."""

    def __init__(self, problems: Sequence[str], num_tensors: int) -> None:
        """Joins the problems into one message."""
        self.problems = list(problems)
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        super().__init__(f"{count} {noun} with {num_tensors} tensors:{lines}")


class Converted(NamedTuple):
    """Parameters under our names, and what became of each source tensor."""

    params: dict[str, np.ndarray]  # float32, sorted by name
    dropped: list[str]  # source names that a rule drops
    origin: dict[str, tuple[str, ...]]  # parameter -> source names


def convert(tensors: Mapping[str, np.ndarray], rules: Sequence[Rule]) -> Converted:
    """Renames and lays out all tensors of a checkpoint.

    Args:
        tensors: Source name -> array.
        rules: A value of `rules.KINDS`.

    Raises:
        ConversionError: Tensors without a rule, tensors that meet in one parameter,
            parameters that nothing fills, wrong shapes, types other than floating point
            and values that are not finite; all of them at once.
    """
    params: dict[str, np.ndarray] = {}
    pieces: dict[str, dict[int, np.ndarray]] = {}
    origin: dict[str, tuple[str, ...]] = {}
    taken: dict[tuple[str, int | None], str] = {}
    dropped: list[str] = []
    problems: list[str] = []
    for name, value in sorted(tensors.items()):
        rule, target = find_rule(name, rules)
        if rule is None:
            problems.append(f"no rule for {name} {value.shape}")
            continue
        if target is None:
            dropped.append(name)
            continue
        place = (target, rule.part)
        if place in taken:
            problems.append(f"{name} -> {target}: already filled by {taken[place]}")
            continue
        taken[place] = name
        origin[target] = (*origin.get(target, ()), name)
        try:
            laid_out = _lay_out(value, rule)
        except (ValueError, IndexError) as error:
            problems.append(f"{name} -> {target}: {error}")
            continue
        if rule.part is None:
            params[target] = laid_out
        else:
            pieces.setdefault(target, {})[rule.part] = laid_out
    fused, misfits = _fuse(pieces, origin, taken)
    params |= fused
    problems += misfits + _misfits(params, origin)
    if problems:
        raise ConversionError(problems, len(tensors))
    return Converted({name: params[name] for name in sorted(params)}, dropped, origin)


def _lay_out(value: np.ndarray, rule: Rule) -> np.ndarray:
    if not np.issubdtype(value.dtype, np.floating):
        raise ValueError(f"expected floating point values, got {value.dtype}")
    if value.size == 0:
        raise ValueError(f"expected some values, got the empty shape {value.shape}")
    try:
        laid_out = rule.layout(value)
    except (ValueError, IndexError):
        how = (rule.layout.__doc__ or rule.layout.__name__).split(";")[0].rstrip(".")
        raise ValueError(f"expected {how}, got {value.shape}") from None
    with np.errstate(over="ignore", invalid="ignore"):  # reported just below
        laid_out = np.ascontiguousarray(laid_out, dtype=np.float32)
    bad = laid_out.size - int(np.isfinite(laid_out).sum())
    if bad:
        raise ValueError(f"{bad} of {laid_out.size} values are NaN or infinite")
    return laid_out


def _fuse(
    pieces: Mapping[str, Mapping[int, np.ndarray]],
    origin: Mapping[str, tuple[str, ...]],
    taken: Mapping[tuple[str, int | None], str],
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Stacks query, key and value; says which of them are missing or differ."""
    fused: dict[str, np.ndarray] = {}
    problems = []
    for target, parts in pieces.items():
        missing = [name for k, name in enumerate(PARTS) if (target, k) not in taken]
        shapes = {part.shape for part in parts.values()}
        came = ", ".join(origin[target])
        if missing:
            problems.append(f"{came} -> {target}: no {', '.join(missing)}")
        elif len(shapes) > 1:
            problems.append(f"{came} -> {target}: query, key and value differ in shape")
        elif len(parts) == len(PARTS):
            stacked = [parts[k] for k in range(len(PARTS))]
            fused[target] = np.concatenate(stacked, axis=-1)
    return fused, problems


def _misfits(
    params: Mapping[str, np.ndarray], origin: Mapping[str, tuple[str, ...]]
) -> list[str]:
    """Compares the parameters with those of a model of their size."""
    expected = expected_shapes(params)
    problems = []
    for name, value in params.items():
        shape, came = expected.get(name), ", ".join(origin[name])
        if shape is None:
            problems.append(f"{came} -> {name}: no place in such a model")
            continue
        fits = len(shape) == value.ndim and all(
            size in (None, actual) for size, actual in zip(shape, value.shape)
        )
        if not fits:
            text = str(shape).replace("None", "?")
            if name.endswith("position_table"):
                text += ", one row for the class token and a square of patches"
            problems.append(f"{came} -> {name}: expected {text}, got {value.shape}")
    # What was there but could not be laid out is a problem already reported.
    problems += [f"nothing fills {name}" for name in expected if name not in origin]
    return problems
