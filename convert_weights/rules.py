"""Names and layouts of ViT checkpoints, as data.

Every kind of checkpoint is a tuple of rules. A rule says where one kind of source
tensor goes and how its layout changes; a rule without a target drops its tensor on
purpose. `convert_weights.convert` applies them and accepts nothing half-done.
"""

import re
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


# At most 999, which bounds what a broken name can ask for.
_INDEX = r"(0|[1-9][0-9]{0,2})"
_BLOCK = rf"blocks\.{_INDEX}\."
_HF_BLOCK = rf"(?:encoder\.layer|layers)\.{_INDEX}\."  # in files; in memory, from 5.0
_NPZ_BLOCK = rf"Transformer/encoderblock_{_INDEX}/"
_NPZ_ATTENTION = _NPZ_BLOCK + r"MultiHeadDotProductAttention_[01]/"
_NPZ_MLP = _NPZ_BLOCK + r"MlpBlock_[03]/"
_STEM = r"patch_embed\.proj\.([0-9])\."


def _under(prefix: str, rules: Iterable[Rule], target: str = "") -> tuple[Rule, ...]:
    """The rules for names behind a prefix (without groups that capture)."""
    return tuple(
        rule._replace(
            source=prefix + rule.source,
            target=None if rule.target is None else target + rule.target,
        )
        for rule in rules
    )


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

_POSITIONS = (Rule(r"pos_embed", r"position_table", positions),)

# What follows the encoder in a classifier. The features are taken before it.
_HEADS = (
    Rule(r"head\.(weight|bias)", None, same),
    Rule(r"pre_logits\.(fc\.)?(weight|bias)", None, same),
)

_CONV_STEM = (
    Rule(_STEM + r"0\.weight", r"patch_embedding/convs/\1/kernel", conv),
    Rule(_STEM + r"1\.weight", r"patch_embedding/norms/\1/scale", same),
    Rule(_STEM + r"1\.bias", r"patch_embedding/norms/\1/bias", same),
    Rule(_STEM + r"3\.weight", r"patch_embedding/projection/kernel", conv),
    Rule(_STEM + r"3\.bias", r"patch_embedding/projection/bias", same),
)

TIMM = (*_ENCODER, *_POSITIONS, *_HEADS)

DEIT_DISTILLED = (
    *_ENCODER,
    Rule(r"pos_embed", r"position_table", positions_without_distillation),
    Rule(r"dist_token", None, same),
    Rule(r"head_dist\.(weight|bias)", None, same),
    *_HEADS,
)

MAE = (
    *_ENCODER,
    *_POSITIONS,
    Rule(r"mask_token", None, same),
    Rule(r"decoder_.*", None, same),
)


def _dino(branch: str, other: str) -> tuple[Rule, ...]:
    return (
        *_under(rf"{branch}\.(?:module\.)?backbone\.", (*_ENCODER, *_POSITIONS)),
        Rule(rf"{branch}\.(?:module\.)?head\..*", None, same),
        Rule(rf"{other}\..*", None, same),
    )


_MAL_DECODER = (
    Rule(
        r"mask_head\.convs\.([0-3])\.conv\.weight",
        r"pixel_head/convs/\1/kernel",
        conv,
    ),
    Rule(r"mask_head\.convs\.([0-3])\.conv\.bias", r"pixel_head/convs/\1/bias", same),
    Rule(r"roi_head\.mlp1\.weight", r"prototype_head/hidden/kernel", linear),
    Rule(r"roi_head\.mlp1\.bias", r"prototype_head/hidden/bias", same),
    Rule(r"roi_head\.mlp2\.weight", r"prototype_head/output/kernel", linear),
    Rule(r"roi_head\.mlp2\.bias", r"prototype_head/output/bias", same),
)


def _mal(branch: str, other: str) -> tuple[Rule, ...]:
    encoder = (*_ENCODER, *_CONV_STEM, *_POSITIONS, *_HEADS)
    return (
        *_under(rf"{branch}\.backbone\.", encoder, "encoder/"),
        *_under(rf"{branch}\.", _MAL_DECODER, "decoder/"),
        Rule(rf"{other}\..*", None, same),
    )


_TORCH_STEM = (
    Rule(
        r"patch_embed\.convs\.([0-9])\.weight", r"patch_embedding/convs/\1/kernel", conv
    ),
    Rule(
        r"patch_embed\.norms\.([0-9])\.weight", r"patch_embedding/norms/\1/scale", same
    ),
    Rule(r"patch_embed\.norms\.([0-9])\.bias", r"patch_embedding/norms/\1/bias", same),
    Rule(
        r"patch_embed\.projection\.weight", r"patch_embedding/projection/kernel", conv
    ),
    Rule(r"patch_embed\.projection\.bias", r"patch_embedding/projection/bias", same),
)

_TORCH_DECODER = (
    Rule(r"pixel_head\.convs\.([0-3])\.weight", r"pixel_head/convs/\1/kernel", conv),
    Rule(r"pixel_head\.convs\.([0-3])\.bias", r"pixel_head/convs/\1/bias", same),
    Rule(
        r"prototype_head\.(hidden|output)\.weight",
        r"prototype_head/\1/kernel",
        linear,
    ),
    Rule(r"prototype_head\.(hidden|output)\.bias", r"prototype_head/\1/bias", same),
)

TORCH_GENERATOR = (  # as `--to=torch-generator` writes it
    *_under(r"encoder\.", (*_ENCODER, *_TORCH_STEM, *_POSITIONS), "encoder/"),
    *_under(r"decoder\.", _TORCH_DECODER, "decoder/"),
)


def _hf_qkv(number: int) -> tuple[Rule, ...]:
    part = PARTS[number]
    source = rf"{_HF_BLOCK}attention\.(?:attention\.{part}|{part[0]}_proj)\."
    target = r"blocks/\1/attention/qkv/"
    return (
        Rule(source + "weight", target + "kernel", linear, number),
        Rule(source + "bias", target + "bias", same, number),
    )


_HF_NORMS = {"before": "1", "after": "2"}
_HF_LINEARS = {
    r"attention\.(?:output\.dense|o_proj)": r"attention/projection",
    r"(?:intermediate\.dense|mlp\.fc1)": r"mlp/hidden",
    r"(?:output\.dense|mlp\.fc2)": r"mlp/output",
}
_HF_ENCODER = (
    Rule(r"embeddings\.cls_token", r"class_token", same),
    Rule(
        r"embeddings\.patch_embeddings\.projection\.weight",
        r"patch_embedding/kernel",
        conv,
    ),
    Rule(
        r"embeddings\.patch_embeddings\.projection\.bias",
        r"patch_embedding/bias",
        same,
    ),
    *(
        Rule(
            rf"{_HF_BLOCK}layernorm_{name}\.{source}",
            rf"blocks/\1/norm_{number}/{target}",
            same,
        )
        for name, number in _HF_NORMS.items()
        for source, target in (("weight", "scale"), ("bias", "bias"))
    ),
    *(rule for number in range(3) for rule in _hf_qkv(number)),
    *(
        Rule(rf"{_HF_BLOCK}{name}\.{source}", rf"blocks/\1/{ours}/{target}", layout)
        for name, ours in _HF_LINEARS.items()
        for source, target, layout in (
            ("weight", "kernel", linear),
            ("bias", "bias", same),
        )
    ),
    Rule(r"layernorm\.weight", r"norm/scale", same),
    Rule(r"layernorm\.bias", r"norm/bias", same),
    Rule(r"pooler\.dense\.(weight|bias)", None, same),
    Rule(r"embeddings\.mask_token", None, same),
)
_HF_POSITIONS = r"embeddings\.position_embeddings"

HF_VIT = (
    *_under(
        r"(?:vit\.)?",
        (*_HF_ENCODER, Rule(_HF_POSITIONS, r"position_table", positions)),
    ),
    Rule(r"classifier\.(weight|bias)", None, same),
)

HF_MAE = (*HF_VIT, Rule(r"decoder\..*", None, same))

HF_DEIT = (
    *_under(
        r"(?:deit\.)?",
        (
            *_HF_ENCODER,
            Rule(_HF_POSITIONS, r"position_table", positions_without_distillation),
            Rule(r"embeddings\.distillation_token", None, same),
        ),
    ),
    Rule(r"(cls_|distillation_)?classifier\.(weight|bias)", None, same),
)

NPZ = _under(
    r"(?:opt/target/|params/)?",
    (
        Rule(r"cls", r"class_token", same),
        Rule(r"embedding/kernel", r"patch_embedding/kernel", same),
        Rule(r"embedding/bias", r"patch_embedding/bias", same),
        Rule(
            r"(?:Transformer/posembed_input/)?pos_embedding",
            r"position_table",
            positions,
        ),
        Rule(_NPZ_BLOCK + r"LayerNorm_0/(scale|bias)", r"blocks/\1/norm_1/\2", same),
        Rule(_NPZ_BLOCK + r"LayerNorm_[12]/(scale|bias)", r"blocks/\1/norm_2/\2", same),
        *(
            rule
            for number, part in enumerate(PARTS)
            for rule in (
                Rule(
                    rf"{_NPZ_ATTENTION}{part}/kernel",
                    r"blocks/\1/attention/qkv/kernel",
                    to_heads,
                    number,
                ),
                Rule(
                    rf"{_NPZ_ATTENTION}{part}/bias",
                    r"blocks/\1/attention/qkv/bias",
                    flat_heads,
                    number,
                ),
            )
        ),
        Rule(
            _NPZ_ATTENTION + r"out/kernel",
            r"blocks/\1/attention/projection/kernel",
            from_heads,
        ),
        Rule(
            _NPZ_ATTENTION + r"out/bias", r"blocks/\1/attention/projection/bias", same
        ),
        Rule(_NPZ_MLP + r"Dense_0/(kernel|bias)", r"blocks/\1/mlp/hidden/\2", same),
        Rule(_NPZ_MLP + r"Dense_1/(kernel|bias)", r"blocks/\1/mlp/output/\2", same),
        Rule(r"Transformer/encoder_norm/(scale|bias)", r"norm/\1", same),
        Rule(r"(head|pre_logits)/(kernel|bias)", None, same),
    ),
)

EXITS_JAX = (Rule(r"(.+)", r"\1", same),)

KINDS: dict[str, tuple[Rule, ...]] = {
    "timm": TIMM,
    "deit_distilled": DEIT_DISTILLED,
    "mae": MAE,
    "dino": _dino("teacher", "student"),
    "dino_student": _dino("student", "teacher"),
    "hf_vit": HF_VIT,
    "hf_mae": HF_MAE,
    "hf_deit": HF_DEIT,
    "npz": NPZ,
    "mal": _mal("student", "teacher"),
    "mal_teacher": _mal("teacher", "student"),
    "torch_generator": TORCH_GENERATOR,
    "exits_jax": EXITS_JAX,
}

# Names that tell the kind: all expressions of a row match some name. First row wins.
_SIGNS = (
    ("exits_jax", (r"(encoder/)?position_table",)),
    ("mal", (r"student\.backbone\..*", r"student\.(roi_head|mask_head)\..*")),
    ("mal_teacher", (r"teacher\.backbone\..*", r"teacher\.(roi_head|mask_head)\..*")),
    ("dino", (r"teacher\.(module\.)?backbone\.blocks\..*",)),
    ("dino_student", (r"student\.(module\.)?backbone\.blocks\..*",)),
    ("torch_generator", (r"encoder\.blocks\..*", r"decoder\.pixel_head\..*")),
    ("hf_deit", (r"(deit\.)?embeddings\.distillation_token",)),
    ("hf_mae", (r"(vit\.)?embeddings\.position_embeddings", r"decoder\..*")),
    ("hf_vit", (r"(vit\.)?embeddings\.position_embeddings",)),
    ("npz", (r".*Transformer/encoderblock.*",)),
    (
        "deit_distilled",
        (_BLOCK + ".*", "cls_token|pos_embed", r"dist_token|head_dist\.weight"),
    ),
    ("mae", (_BLOCK + ".*", "cls_token|pos_embed", "mask_token|decoder_.*")),
    ("timm", (_BLOCK + ".*", "cls_token|pos_embed")),
)


def detect_kind(names: Iterable[str]) -> str | None:
    """Tells from its tensor names which kind a checkpoint is.

    An encoder-only MAE file has exactly timm's names and is therefore `timm`.

    Returns:
      A key of `KINDS`, or None when the names belong to none of them.
    """
    names = list(names)
    for kind, signs in _SIGNS:
        if all(any(re.fullmatch(sign, name) for name in names) for sign in signs):
            return kind
    return None


def find_rule(
    name: str, rules: Iterable[Rule]
) -> tuple[Rule, str | None] | tuple[None, None]:
    """Finds the first rule for a source name, and the target name it gives."""
    for rule in rules:
        match = re.fullmatch(rule.source, name)
        if match:
            return rule, None if rule.target is None else match.expand(rule.target)
    return None, None
