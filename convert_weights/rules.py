"""The kinds of checkpoints, as data: names, layouts and how a kind is told.

Every kind is a tuple of rules. A rule says where one kind of source tensor goes and how
its layout changes; a rule without a target drops its tensor on purpose.
`convert_weights.convert` applies them and accepts nothing half-done.
"""

import re
from collections.abc import Iterable

from . import other_names, timm_names
from .layouts import Rule, same

KINDS: dict[str, tuple[Rule, ...]] = {
    "timm": timm_names.TIMM,
    "deit_distilled": timm_names.DEIT_DISTILLED,
    "mae": timm_names.MAE,
    "dino": timm_names.dino("teacher", "student"),
    "dino_student": timm_names.dino("student", "teacher"),
    "hf_vit": other_names.HF_VIT,
    "hf_mae": other_names.HF_MAE,
    "hf_deit": other_names.HF_DEIT,
    "npz": other_names.NPZ,
    "mal": timm_names.mal("student", "teacher"),
    "mal_teacher": timm_names.mal("teacher", "student"),
    "torch_generator": timm_names.TORCH_GENERATOR,
    "exits_jax": (Rule(r"(.+)", r"\1", same),),
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
        (
            timm_names.BLOCK + ".*",
            "cls_token|pos_embed",
            r"dist_token|head_dist\.weight",
        ),
    ),
    ("mae", (timm_names.BLOCK + ".*", "cls_token|pos_embed", "mask_token|decoder_.*")),
    ("timm", (timm_names.BLOCK + ".*", "cls_token|pos_embed")),
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
