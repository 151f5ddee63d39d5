"""Rules for checkpoints of Hugging Face's transformers and of Google's ViT."""

from .layouts import (
    INDEX,
    PARTS,
    Rule,
    conv,
    flat_heads,
    from_heads,
    linear,
    positions,
    positions_without_distillation,
    same,
    to_heads,
    under,
)

_HF_BLOCK = rf"(?:encoder\.layer|layers)\.{INDEX}\."  # in files; in memory, from 5.0
_NPZ_BLOCK = rf"Transformer/encoderblock_{INDEX}/"
_NPZ_ATTENTION = _NPZ_BLOCK + r"MultiHeadDotProductAttention_[01]/"
_NPZ_MLP = _NPZ_BLOCK + r"MlpBlock_[03]/"


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
    *under(
        r"(?:vit\.)?",
        (*_HF_ENCODER, Rule(_HF_POSITIONS, r"position_table", positions)),
    ),
    Rule(r"classifier\.(weight|bias)", None, same),
)

HF_MAE = (*HF_VIT, Rule(r"decoder\..*", None, same))

HF_DEIT = (
    *under(
        r"(?:deit\.)?",
        (
            *_HF_ENCODER,
            Rule(_HF_POSITIONS, r"position_table", positions_without_distillation),
            Rule(r"embeddings\.distillation_token", None, same),
        ),
    ),
    Rule(r"(cls_|distillation_)?classifier\.(weight|bias)", None, same),
)

NPZ = under(
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
