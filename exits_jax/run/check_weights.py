"""Whether parameters fill a model and, if not, which fields would make them."""

import math
import re

from exits_jax.models.params import Params
from exits_jax.models.vit import SIZES
from exits_jax.models.weights import faults_of_fit, flatten

_MAX_LISTED = 5
_BLOCK = re.compile(r"(?:encoder/)?blocks/(\d+)/")


class WeightsError(ValueError):
    """A file of weights that cannot be used; the message names it."""


def check_fit(
    params: Params, expected: Params, *, name: str, heads: str | None = None
) -> None:
    """Compares names and shapes of two trees.

    Args:
        params: What is to fill the model: a generator, or its encoder.
        expected: What the model has, of which the shapes are looked at.
        name: Where the parameters come from.
        heads: Attention heads that the file states, if it does.

    Raises:
        WeightsError: With the fields to set, then the first parameters that do not fit.
    """
    faults = faults_of_fit(params, expected)
    if not faults:
        return
    have, want = _shapes(params), _shapes(expected)
    lines = [
        *_size_hints(have, want, name, heads),
        *_layout_hints(have, want),
        f"{len(faults)} parameters of {name} do not fit the model:",
        *(f"  {fault}" for fault in faults[:_MAX_LISTED]),
    ]
    if len(faults) > _MAX_LISTED:
        lines.append(f"  and {len(faults) - _MAX_LISTED} more")
    raise WeightsError("\n".join(lines))


_Shapes = dict[str, tuple[int, ...]]


def _shapes(params: Params) -> _Shapes:
    """Shapes by name; those of an encoder alone are called as within a generator."""
    flat = {key: tuple(value.shape) for key, value in flatten(params).items()}
    inside = any(key.startswith("encoder/") for key in flat)
    return flat if inside else {f"encoder/{key}": flat[key] for key in flat}


def _size_hints(
    have: _Shapes, want: _Shapes, name: str, heads: str | None
) -> list[str]:
    """What to set where the encoders differ in width or depth."""
    has, wants = _size(have), _size(want)
    if has is None or wants is None or has == wants:
        return []
    names = _names()
    holds, is_now = (described(*size) for size in (has, wants))
    said = f"{name} holds {holds}, the model is {is_now}. "
    if has not in names or wants not in names:
        flags = [f"--config.model.{field}={n}" for field, n in zip(_FIELDS, has)]
        flags.append(f"--config.model.heads={heads or 'HEADS, as it was trained'}")
        return [f"{said}Use {' '.join(flags)}"]
    also = ""
    if names[has] == "tiny":
        also = ", or --config=custom:cpu, which has a ViT-Tiny and crops of 224 px"
    return [f"{said}Use --config.model.size={names[has]}{also}."]


_FIELDS = ("dim", "depth")


def _size(shapes: _Shapes) -> tuple[int, int] | None:
    """Width and number of blocks of an encoder."""
    table = shapes.get("encoder/position_table")
    blocks = [int(found[1]) for key in shapes if (found := _BLOCK.match(key))]
    return (table[-1], max(blocks) + 1) if table and blocks else None


def described(width: int, depth: int) -> str:
    """An encoder in words, with the name of the usual sizes."""
    size = _names().get((width, depth))
    known = f"a ViT-{size.capitalize()}" if size else "an encoder"
    return f"{known} ({width} wide, {depth} blocks)"


def _names() -> dict[tuple[int, int], str]:
    return {(width, depth): size for size, (width, depth, _) in SIZES.items()}


def _layout_hints(have: _Shapes, want: _Shapes) -> list[str]:
    """What to set where patches, positions, the class token or the decoder differ."""
    hints = []
    if "encoder/class_token" in want.keys() - have.keys():
        hints.append("Set model.class_token=False: the file has no class token.")
    sides = {
        "encoder/position_table": ("model.position_grid", "--grid"),
        "encoder/patch_embedding/kernel": ("model.patch_size", "--patch-size"),
    }
    for key, (field, flag) in sides.items():
        if key not in have or key not in want or have[key][0] == want[key][0]:
            continue
        has, wants = have[key][0], want[key][0]
        if field == "model.position_grid":  # rows: a square, and the class token
            has, wants = math.isqrt(has), math.isqrt(wants)
        if has != wants:
            hints.append(
                f"Set {field}={has}, as in the file, or convert it again with "
                f"{flag}={wants}."
            )
    last = "decoder/pixel_head/convs/0/bias"
    if last in have and last in want and have[last] != want[last]:
        hints.append(f"Set decoder.features={have[last][0]}, as in the file.")
    if any(key.startswith("prompt/") for key in have.keys() - want.keys()):
        hints.append("Set prompt.enabled=True: the file's generator sees the clicks.")
    return hints
