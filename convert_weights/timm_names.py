"""Rules for timm's names: timm, DeiT, MAE, DINO, the baseline and our exports."""

from .layouts import (
    INDEX,
    Rule,
    conv,
    linear,
    positions,
    positions_without_distillation,
    same,
    under,
)

BLOCK = rf"blocks\.{INDEX}\."
_STEM = r"patch_embed\.proj\.([0-9])\."

_ENCODER = (
    Rule(r"cls_token", r"class_token", same),
    Rule(r"patch_embed\.proj\.weight", r"patch_embedding/kernel", conv),
    Rule(r"patch_embed\.proj\.bias", r"patch_embedding/bias", same),
    Rule(BLOCK + r"norm([12])\.weight", r"blocks/\1/norm_\2/scale", same),
    Rule(BLOCK + r"norm([12])\.bias", r"blocks/\1/norm_\2/bias", same),
    Rule(BLOCK + r"attn\.qkv\.weight", r"blocks/\1/attention/qkv/kernel", linear),
    Rule(BLOCK + r"attn\.qkv\.bias", r"blocks/\1/attention/qkv/bias", same),
    Rule(
        BLOCK + r"attn\.proj\.weight", r"blocks/\1/attention/projection/kernel", linear
    ),
    Rule(BLOCK + r"attn\.proj\.bias", r"blocks/\1/attention/projection/bias", same),
    Rule(BLOCK + r"mlp\.fc1\.weight", r"blocks/\1/mlp/hidden/kernel", linear),
    Rule(BLOCK + r"mlp\.fc1\.bias", r"blocks/\1/mlp/hidden/bias", same),
    Rule(BLOCK + r"mlp\.fc2\.weight", r"blocks/\1/mlp/output/kernel", linear),
    Rule(BLOCK + r"mlp\.fc2\.bias", r"blocks/\1/mlp/output/bias", same),
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


def dino(branch: str, other: str) -> tuple[Rule, ...]:
    """One of the two networks of a DINO training checkpoint."""
    return (
        *under(rf"{branch}\.(?:module\.)?backbone\.", (*_ENCODER, *_POSITIONS)),
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


def mal(branch: str, other: str) -> tuple[Rule, ...]:
    """One of the two generators of a Mask Auto-Labeler checkpoint."""
    encoder = (*_ENCODER, *_CONV_STEM, *_POSITIONS, *_HEADS)
    return (
        *under(rf"{branch}\.backbone\.", encoder, "encoder/"),
        *under(rf"{branch}\.", _MAL_DECODER, "decoder/"),
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
    *under(r"encoder\.", (*_ENCODER, *_TORCH_STEM, *_POSITIONS), "encoder/"),
    *under(r"decoder\.", _TORCH_DECODER, "decoder/"),
    Rule(r"prompt\.(embedding|skip)\.weight", r"prompt/\1/linear/kernel", linear),
    Rule(r"prompt\.embedding\.bias", r"prompt/embedding/linear/bias", same),
)
