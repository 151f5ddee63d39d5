"""Applies the rules of one kind; all that does not fit is reported together."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from convert_weights.rules import Rule, find_rule

_FAMILY = {  # (width, blocks) -> name
    (192, 12): "vit_tiny",
    (384, 12): "vit_small",
    (768, 12): "vit_base",
    (1024, 24): "vit_large",
    (1280, 32): "vit_huge",
}

_Shape = tuple[int | None, ...]  # None where nothing in the file says the size


class ConversionError(ValueError):
    """Tensors that do not fit; `problems` has one line for each."""

    def __init__(self, problems: Sequence[str], num_tensors: int) -> None:
        """Joins the problems into one message."""
        self.problems = list(problems)
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        super().__init__(f"{count} {noun} with {num_tensors} tensors:{lines}")


class Encoder(NamedTuple):
    """The sizes of a ViT, as read off its tensors; None where none says it."""

    width: int | None
    depth: int
    patch_size: int | None  # px
    mlp_width: int | None
    grid: int | None  # patches on a side of the position table

    @property
    def architecture(self) -> str:
        """A name such as `vit_tiny_patch16`, the usual one for the usual sizes."""
        family = _FAMILY.get(
            (self.width or 0, self.depth), f"vit_width{self.width}_depth{self.depth}"
        )
        return f"{family}_patch{self.patch_size}"


def convert(
    tensors: dict[str, np.ndarray], rules: Sequence[Rule]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Renames and lays out all tensors of a checkpoint.

    Args:
      tensors: source name -> array.
      rules: a value of `rules.KINDS`.

    Returns:
      Parameter name -> float32 array, sorted by name, and the source names that a
      rule dropped.

    Raises:
      ConversionError: tensors without a rule, tensors that meet in one parameter,
        parameters that nothing fills, wrong shapes, types other than floating point
        and values that are not finite; all of them at once.
    """
    params: dict[str, np.ndarray] = {}
    origin: dict[str, str] = {}
    dropped: list[str] = []
    problems: list[str] = []
    for name, value in sorted(tensors.items()):
        rule, target = find_rule(name, rules)
        if rule is None:
            problems.append(f"no rule for {name} {value.shape}")
        elif target is None:
            dropped.append(name)
        elif target in origin:
            problems.append(f"{name} -> {target}: already filled by {origin[target]}")
        else:
            origin[target] = name
            try:
                params[target] = _lay_out(value, rule)
            except (ValueError, IndexError) as error:
                problems.append(f"{name} -> {target}: {error}")
    problems += _misfits(params, origin)
    if problems:
        raise ConversionError(problems, len(tensors))
    return {name: params[name] for name in sorted(params)}, dropped


def read_encoder(params: dict[str, np.ndarray]) -> Encoder:
    """Reads the sizes of the encoder off its converted parameters."""
    kernel = params.get("patch_embedding/kernel", np.empty(()))
    hidden = [v for k, v in params.items() if k.endswith("mlp/hidden/bias")]
    rows = params.get("position_table", np.empty(())).shape[:1]
    grid = math.isqrt(max(rows[0] - 1, 1)) if rows else None
    blocks = [int(name.split("/")[1]) for name in params if name.startswith("blocks/")]
    return Encoder(
        width=kernel.shape[3] if kernel.ndim == 4 else None,
        depth=max(blocks, default=0) + 1,
        patch_size=kernel.shape[0] if kernel.ndim == 4 else None,
        mlp_width=hidden[0].size if hidden else None,
        grid=grid,
    )


def expected_shapes(encoder: Encoder) -> dict[str, _Shape]:
    """Lists every parameter of an encoder of this size, with its shape."""
    width, patch, hidden = encoder.width, encoder.patch_size, encoder.mlp_width
    rows = None if encoder.grid is None else 1 + encoder.grid**2
    qkv = None if width is None else 3 * width
    shapes: dict[str, _Shape] = {
        "patch_embedding/kernel": (patch, patch, 3, width),
        "patch_embedding/bias": (width,),
        "class_token": (1, 1, width),
        "position_table": (rows, width),
        "norm/scale": (width,),
        "norm/bias": (width,),
    }
    block: dict[str, _Shape] = {
        "norm_1/scale": (width,),
        "norm_1/bias": (width,),
        "attention/qkv/kernel": (width, qkv),
        "attention/qkv/bias": (qkv,),
        "attention/projection/kernel": (width, width),
        "attention/projection/bias": (width,),
        "norm_2/scale": (width,),
        "norm_2/bias": (width,),
        "mlp/hidden/kernel": (width, hidden),
        "mlp/hidden/bias": (hidden,),
        "mlp/output/kernel": (hidden, width),
        "mlp/output/bias": (width,),
    }
    for i in range(encoder.depth):
        shapes |= {f"blocks/{i}/{name}": shape for name, shape in block.items()}
    return shapes


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


def _misfits(params: dict[str, np.ndarray], origin: dict[str, str]) -> list[str]:
    """Compares the parameters with those of an encoder of their size."""
    expected = expected_shapes(read_encoder(params))
    problems = []
    for name, value in params.items():
        shape = expected[name]
        fits = len(shape) == value.ndim and all(
            size in (None, actual) for size, actual in zip(shape, value.shape)
        )
        if not fits:
            text = str(shape).replace("None", "?")
            if name == "position_table":
                text += ", one row for the class token and a square of patches"
            problems.append(
                f"{origin[name]} -> {name}: expected {text}, got {value.shape}"
            )
    # What was there but could not be laid out is a problem already reported.
    problems += [f"nothing fills {name}" for name in expected if name not in origin]
    return problems
