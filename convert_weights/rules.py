"""Names and layouts of ViT checkpoints, as data.

Every kind of checkpoint is a tuple of rules. A rule says where one kind of source
tensor goes and how its layout changes; a rule without a target drops its tensor on
purpose. `convert_weights.convert` applies them and accepts nothing half-done.
"""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np


class Rule(NamedTuple):
    """Where one kind of source tensor goes, and how its layout changes."""

    source: str  # regular expression on the whole source name
    target: str | None  # replacement, "/" between levels; None drops the tensor
    layout: Callable[[np.ndarray], np.ndarray]


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


# At most 999, which bounds what a broken name can ask for.
_BLOCK = r"blocks\.(0|[1-9][0-9]{0,2})\."

_ENCODER = (
    Rule(r"cls_token", r"class_token", same),
    Rule(r"patch_embed\.proj\.weight", r"patch_embedding/kernel", conv),
    Rule(r"patch_embed\.proj\.bias", r"patch_embedding/bias", same),
    Rule(_BLOCK + r"norm([12])\.weight", r"blocks/\1/norm_\2/scale", same),
    Rule(_BLOCK + r"norm([12])\.bias", r"blocks/\1/norm_\2/bias", same),
    Rule(_BLOCK + r"attn\.qkv\.weight", r"blocks/\1/attention/qkv/kernel", linear),
    Rule(_BLOCK + r"attn\.qkv\.bias", r"blocks/\1/attention/qkv/bias", same),
    Rule(
        _BLOCK + r"attn\.proj\.weight", r"blocks/\1/attention/projection/kernel", linear
    ),
    Rule(_BLOCK + r"attn\.proj\.bias", r"blocks/\1/attention/projection/bias", same),
    Rule(_BLOCK + r"mlp\.fc1\.weight", r"blocks/\1/mlp/hidden/kernel", linear),
    Rule(_BLOCK + r"mlp\.fc1\.bias", r"blocks/\1/mlp/hidden/bias", same),
    Rule(_BLOCK + r"mlp\.fc2\.weight", r"blocks/\1/mlp/output/kernel", linear),
    Rule(_BLOCK + r"mlp\.fc2\.bias", r"blocks/\1/mlp/output/bias", same),
    Rule(r"norm\.weight", r"norm/scale", same),
    Rule(r"norm\.bias", r"norm/bias", same),
)

# What follows the encoder in a classifier. The features are taken before it.
_HEADS = (
    Rule(r"head\.(weight|bias)", None, same),
    Rule(r"pre_logits\.(fc\.)?(weight|bias)", None, same),
)

TIMM = (*_ENCODER, Rule(r"pos_embed", r"position_table", positions), *_HEADS)

DEIT_DISTILLED = (
    *_ENCODER,
    Rule(r"pos_embed", r"position_table", positions_without_distillation),
    Rule(r"dist_token", None, same),
    Rule(r"head_dist\.(weight|bias)", None, same),
    *_HEADS,
)

MAE = (
    *_ENCODER,
    Rule(r"pos_embed", r"position_table", positions),
    Rule(r"mask_token", None, same),
    Rule(r"decoder_.*", None, same),
)

KINDS: dict[str, tuple[Rule, ...]] = {
    "timm": TIMM,
    "deit_distilled": DEIT_DISTILLED,
    "mae": MAE,
}


def detect_kind(names: Iterable[str]) -> str | None:
    """Tells from its tensor names which kind a checkpoint is.

    An encoder-only MAE file has exactly timm's names and is therefore `timm`.

    Returns:
      A key of `KINDS`, or None when the names belong to none of them.
    """
    names = set(names)
    if not {"cls_token", "pos_embed"} & names or not any(
        re.match(_BLOCK, name) for name in names
    ):
        return None
    if "dist_token" in names or "head_dist.weight" in names:
        return "deit_distilled"
    if "mask_token" in names or any(name.startswith("decoder_") for name in names):
        return "mae"
    return "timm"


def find_rule(
    name: str, rules: Iterable[Rule]
) -> tuple[Rule, str | None] | tuple[None, None]:
    """Finds the first rule for a source name, and the target name it gives."""
    for rule in rules:
        match = re.fullmatch(rule.source, name)
        if match:
            return rule, None if rule.target is None else match.expand(rule.target)
    return None, None
