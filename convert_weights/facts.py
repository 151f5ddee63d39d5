"""What a source says about itself beside its tensors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .convert import ConversionError
from .shapes import Encoder
from .sources import read_json, read_metadata

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_CONFIG_SIZES = {  # of a Hugging Face config.json
    "hidden_size": "width",
    "num_hidden_layers": "depth",
    "patch_size": "patch_size",
    "intermediate_size": "mlp_width",
}


def facts_of(source: Path, kind: str, encoder: Encoder) -> tuple[dict[str, str], list]:
    """Metadata that the source carries, and remarks about it.

    Args:
        source: File or folder.
        kind: A key of `rules.KINDS`.
        encoder: The sizes that its tensors have.

    Raises:
        ConversionError: A `config.json` beside the weights contradicts the tensors or
            describes another network.
    """
    if kind in ("exits_jax", "torch_generator"):
        return read_metadata(source), []
    mean, std = _HALF if kind == "npz" else IMAGENET
    facts, remarks = {}, []
    if source.is_dir():
        config = _read(source / "config.json")
        remarks = _check(config, encoder)
        pictures = _read(source / "preprocessor_config.json")
        pretrained = config.get("pretrained_cfg") or {}  # timm's
        mean = pictures.get("image_mean") or pretrained.get("mean") or mean
        std = pictures.get("image_std") or pretrained.get("std") or std
        if "num_attention_heads" in config:
            facts["heads"] = str(config["num_attention_heads"])
        licence = pretrained.get("license")
        if licence:
            facts["licence"] = str(licence)
    facts |= {"image_mean": json.dumps(list(mean)), "image_std": json.dumps(list(std))}
    if kind in ("mal", "mal_teacher"):
        facts["position_offset"] = "0.1"
    return facts, remarks


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _check(config: Mapping[str, Any], encoder: Encoder) -> list[str]:
    """Refuses other networks; remarks on the epsilon of the norms."""
    sizes = encoder._asdict()
    problems = [
        f"config.json says {name} {config[name]}, the tensors have {sizes[size]}"
        for name, size in _CONFIG_SIZES.items()
        if name in config and config[name] != sizes[size]
    ]
    for name, wanted in (("hidden_act", "gelu"), ("qkv_bias", True)):
        if config.get(name, wanted) != wanted:
            problems.append(
                f"config.json says {name} {config[name]}, this package has {wanted}"
            )
    if problems:
        raise ConversionError(problems, 0)
    epsilon = config.get("layer_norm_eps")
    if epsilon is None or np.isclose(epsilon, 1e-6, rtol=1e-3, atol=0):
        return []
    return [
        f"config.json says layer_norm_eps {epsilon}; the weights were published with "
        "1e-6, which this package uses: set it there before comparing"
    ]
