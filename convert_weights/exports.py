"""Our parameters under the names of others, as data."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from .convert import ConversionError
from .layouts import PARTS, Rule, linear, same
from .shapes import is_generator, part_of, read_encoder


def conv_back(x: np.ndarray) -> np.ndarray:
    """[height, width, in, out] -> [out, in, height, width]."""
    return x.transpose(3, 2, 0, 1)


def positions_back(x: np.ndarray) -> np.ndarray:
    """[1 + n, d] -> [1, 1 + n, d]."""
    return x[None]


_BLOCK = r"blocks/([0-9]+)/"
_LEAVES = (("kernel", "weight", linear), ("bias", "bias", same))
_NORM = (("scale", "weight", same), ("bias", "bias", same))


def _linear(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Weight and bias of one layer of all blocks."""
    return tuple(
        Rule(f"{_BLOCK}{ours}/{leaf}", f"{theirs}.{name}", layout)
        for leaf, name, layout in _LEAVES
    )


def _norms(ours: str, theirs: str) -> tuple[Rule, ...]:
    return tuple(
        Rule(f"{ours}/{leaf}", f"{theirs}.{name}", layout)
        for leaf, name, layout in _NORM
    )


TIMM = (
    Rule("class_token", "cls_token", same),
    Rule("position_table", "pos_embed", positions_back),
    Rule("patch_embedding/kernel", "patch_embed.proj.weight", conv_back),
    Rule("patch_embedding/bias", "patch_embed.proj.bias", same),
    *_norms(_BLOCK + "norm_([12])", r"blocks.\1.norm\2"),
    *_linear("attention/qkv", r"blocks.\1.attn.qkv"),
    *_linear("attention/projection", r"blocks.\1.attn.proj"),
    *_linear("mlp/hidden", r"blocks.\1.mlp.fc1"),
    *_linear("mlp/output", r"blocks.\1.mlp.fc2"),
    *_norms("norm", "norm"),
)

_HF_BLOCK = r"encoder.layer.\1."
HF = (
    Rule("class_token", "embeddings.cls_token", same),
    Rule("position_table", "embeddings.position_embeddings", positions_back),
    Rule(
        "patch_embedding/kernel",
        "embeddings.patch_embeddings.projection.weight",
        conv_back,
    ),
    Rule("patch_embedding/bias", "embeddings.patch_embeddings.projection.bias", same),
    *_norms(_BLOCK + "norm_1", _HF_BLOCK + "layernorm_before"),
    *_norms(_BLOCK + "norm_2", _HF_BLOCK + "layernorm_after"),
    *(
        rule._replace(part=number)
        for number, part in enumerate(PARTS)
        for rule in _linear("attention/qkv", f"{_HF_BLOCK}attention.attention.{part}")
    ),
    *_linear("attention/projection", _HF_BLOCK + "attention.output.dense"),
    *_linear("mlp/hidden", _HF_BLOCK + "intermediate.dense"),
    *_linear("mlp/output", _HF_BLOCK + "output.dense"),
    *_norms("norm", "layernorm"),
)

_CONV_STEM = (
    Rule(
        "patch_embedding/convs/([0-9])/kernel",
        r"patch_embed.convs.\1.weight",
        conv_back,
    ),
    *_norms("patch_embedding/norms/([0-9])", r"patch_embed.norms.\1"),
    Rule(
        "patch_embedding/projection/kernel", "patch_embed.projection.weight", conv_back
    ),
    Rule("patch_embedding/projection/bias", "patch_embed.projection.bias", same),
)

TORCH_GENERATOR = (
    *(
        rule._replace(
            source=f"encoder/{rule.source}", target=f"encoder.{rule.target or ''}"
        )
        for rule in (*TIMM, *_CONV_STEM)
    ),
    Rule(
        "decoder/pixel_head/convs/([0-3])/kernel",
        r"decoder.pixel_head.convs.\1.weight",
        conv_back,
    ),
    Rule(
        "decoder/pixel_head/convs/([0-3])/bias",
        r"decoder.pixel_head.convs.\1.bias",
        same,
    ),
    *(
        Rule(
            f"decoder/prototype_head/(hidden|output)/{leaf}",
            rf"decoder.prototype_head.\1.{name}",
            layout,
        )
        for leaf, name, layout in _LEAVES
    ),
    *(
        Rule(f"prompt/(embedding|skip)/linear/{leaf}", rf"prompt.\1.{name}", layout)
        for leaf, name, layout in _LEAVES
    ),
)

TARGETS = ("exits_jax", "timm", "hf", "torch-generator", "onnx")
WHOLE = ("torch-generator", "onnx")  # of them: what needs a decoder
_RULES = {"timm": TIMM, "hf": HF} | dict.fromkeys(WHOLE, TORCH_GENERATOR)


def export(params: dict[str, np.ndarray], target: str) -> dict[str, np.ndarray]:
    """Gives our parameters the names and layouts of one of the `TARGETS`.

    Of a generator, timm and hf get the encoder. Tensors for onnx have the names of
    torch-generator, by which the graph is made.

    Raises:
        ConversionError: Parameters that have no place there.
    """
    if target == "exits_jax":
        return params
    if target in WHOLE:
        if not is_generator(params):
            raise ConversionError(
                [f"there is no decoder: --to={target} needs a whole generator"],
                len(params),
            )
        alone = {k: v for k, v in params.items() if not k.startswith("walk/")}
        return _renamed(alone, _RULES[target], target)
    if target == "hf" and not read_encoder(params).class_token:
        raise ConversionError(
            ["there is no class token, which --to=hf needs"], len(params)
        )
    return _renamed(part_of(params, "encoder"), _RULES[target], target)


def _renamed(
    params: Mapping[str, np.ndarray], rules: Sequence[Rule], target: str
) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    problems = []
    for name, value in params.items():
        matches = [(rule, re.fullmatch(rule.source, name)) for rule in rules]
        found = [(rule, match) for rule, match in matches if match]
        if not found:
            problems.append(f"no place for {name} {value.shape} in --to={target}")
        for rule, match in found:
            part = value
            if rule.part is not None:
                part = np.split(value, len(PARTS), axis=-1)[rule.part]
            tensors[match.expand(rule.target or "")] = rule.layout(part)
    if problems:
        raise ConversionError(problems, len(params))
    return {name: tensors[name] for name in sorted(tensors)}


def hf_config(params: Mapping[str, np.ndarray], heads: int) -> dict[str, object]:
    """The `config.json` with which `transformers.ViTModel` reads `--to=hf`."""
    encoder = read_encoder(params)
    patch_size, grid = encoder.patch_size or 0, encoder.grid or 0
    return {
        "architectures": ["ViTModel"],
        "model_type": "vit",
        "hidden_size": encoder.width,
        "num_hidden_layers": encoder.depth,
        "num_attention_heads": heads,
        "intermediate_size": encoder.mlp_width,
        "patch_size": patch_size,
        "image_size": patch_size * grid,
        "num_channels": 3,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
        "torch_dtype": "float32",
    }
