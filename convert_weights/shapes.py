"""What the parameters of an encoder or a generator must be, from their own sizes."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

_FAMILY = {  # (width, blocks) -> name
    (192, 12): "vit_tiny",
    (384, 12): "vit_small",
    (768, 12): "vit_base",
    (1024, 24): "vit_large",
    (1280, 32): "vit_huge",
}

Shape = tuple[int | None, ...]  # None where nothing in the file says the size


class Encoder(NamedTuple):
    """The sizes of a ViT, as read off its tensors; None where none says it."""

    width: int | None
    depth: int
    patch_size: int | None  # px
    mlp_width: int | None
    grid: int | None  # patches on a side of the position table
    stem: str = "patch"  # or "conv"
    class_token: bool = True

    @property
    def architecture(self) -> str:
        """A name such as `vit_tiny_patch16`, the usual one for the usual sizes."""
        family = _FAMILY.get(
            (self.width or 0, self.depth), f"vit_width{self.width}_depth{self.depth}"
        )
        stem = "_conv_stem" if self.stem == "conv" else ""
        return f"{family}_patch{self.patch_size}{stem}"

    @property
    def heads(self) -> int | None:
        """Heads of the usual sizes (64 channels each, 80 of ViT-Huge)."""
        if (self.width or 0, self.depth) not in _FAMILY:
            return None
        return (self.width or 0) // (80 if self.width == 1280 else 64)


def part_of(params: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The parameters below a name, without it; all of an encoder file's encoder."""
    prefix = f"{name}/"
    if name == "encoder" and not is_generator(params):
        return dict(params)
    return {
        key.removeprefix(prefix): value
        for key, value in params.items()
        if key.startswith(prefix)
    }


def is_generator(names: Mapping[str, object]) -> bool:
    """Whether encoder and decoder are there, rather than an encoder alone."""
    return any(name.startswith(("encoder/", "decoder/")) for name in names)


def sees_clicks(names: Mapping[str, object]) -> bool:
    """Whether a generator has the part that reads prompts."""
    return any(name.startswith("prompt/") for name in names)


def is_joined_by_walk(names: Mapping[str, object]) -> bool:
    """Whether the encoder of a walk that joins a generator's masks is there."""
    return any(name.startswith("walk/") for name in names)


def read_encoder(params: Mapping[str, np.ndarray]) -> Encoder:
    """Reads the sizes of the encoder off converted parameters."""
    params = part_of(params, "encoder")
    kernel = params.get("patch_embedding/kernel", np.empty(()))
    projection = params.get("patch_embedding/projection/kernel", np.empty(()))
    convs = [name for name in params if name.startswith("patch_embedding/convs/")]
    hidden = [v for k, v in params.items() if k.endswith("mlp/hidden/bias")]
    rows = params.get("position_table", np.empty(())).shape[:1]
    blocks = [int(name.split("/")[1]) for name in params if name.startswith("blocks/")]
    is_square = bool(rows) and math.isqrt(rows[0]) ** 2 == rows[0]
    class_token = "class_token" in params or not is_square
    grid = math.isqrt(max(rows[0] - class_token, 1)) if rows else None
    width = kernel.shape[3] if kernel.ndim == 4 else None
    patch_size = kernel.shape[0] if kernel.ndim == 4 else None
    if convs:
        width = projection.shape[3] if projection.ndim == 4 else None
        patch_size = 2 ** len(convs)
    return Encoder(
        width=width,
        depth=max(blocks, default=0) + 1,
        patch_size=patch_size,
        mlp_width=hidden[0].size if hidden else None,
        grid=grid,
        stem="conv" if convs else "patch",
        class_token=class_token,
    )


def expected_shapes(params: Mapping[str, np.ndarray]) -> dict[str, Shape]:
    """Lists every parameter of a model of the size of these, with its shape."""
    encoder = read_encoder(params)
    shapes = _encoder_shapes(encoder)
    if not is_generator(params):
        return shapes
    bias = params.get("decoder/pixel_head/convs/0/bias", np.empty(()))
    features = bias.size if bias.ndim == 1 else None
    decoder = _decoder_shapes(encoder.width, features)
    return (
        {f"encoder/{name}": shape for name, shape in shapes.items()}
        | {f"decoder/{name}": shape for name, shape in decoder.items()}
        | (_prompt_shapes(encoder.width) if sees_clicks(params) else {})
        | _walk_shapes(params)
    )


def _walk_shapes(params: Mapping[str, np.ndarray]) -> dict[str, Shape]:
    """Those of the encoder of a walk, if there is one: of any size."""
    if not is_joined_by_walk(params):
        return {}
    shapes = _encoder_shapes(read_encoder(part_of(params, "walk")))
    return {f"walk/{name}": shape for name, shape in shapes.items()}


def _encoder_shapes(encoder: Encoder) -> dict[str, Shape]:
    width, hidden = encoder.width, encoder.mlp_width
    tokens = int(encoder.class_token)
    rows = None if encoder.grid is None else tokens + encoder.grid**2
    qkv = None if width is None else 3 * width
    shapes = _stem_shapes(encoder)
    shapes |= {
        "position_table": (rows, width),
        "norm/scale": (width,),
        "norm/bias": (width,),
    }
    if encoder.class_token:
        shapes["class_token"] = (1, 1, width)
    block: dict[str, Shape] = {
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


def _stem_shapes(encoder: Encoder) -> dict[str, Shape]:
    width, patch = encoder.width, encoder.patch_size
    if encoder.stem == "patch" or patch is None:
        return {
            "patch_embedding/kernel": (patch, patch, 3, width),
            "patch_embedding/bias": (width,),
        }
    halvings = patch.bit_length() - 1
    widths = [
        None if width is None else width // 2 ** (halvings - k - 1)
        for k in range(halvings)
    ]
    shapes: dict[str, Shape] = {
        "patch_embedding/projection/kernel": (1, 1, width, width),
        "patch_embedding/projection/bias": (width,),
    }
    for k, (inputs, outputs) in enumerate(zip([3, *widths[:-1]], widths)):
        shapes[f"patch_embedding/convs/{k}/kernel"] = (3, 3, inputs, outputs)
        shapes[f"patch_embedding/norms/{k}/scale"] = (outputs,)
        shapes[f"patch_embedding/norms/{k}/bias"] = (outputs,)
    return shapes


def _decoder_shapes(width: int | None, features: int | None) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {
        "prototype_head/hidden/kernel": (width, features),
        "prototype_head/hidden/bias": (features,),
        "prototype_head/output/kernel": (features, features),
        "prototype_head/output/bias": (features,),
    }
    for k in range(4):
        inputs = width if k == 0 else features
        shapes[f"pixel_head/convs/{k}/kernel"] = (3, 3, inputs, features)
        shapes[f"pixel_head/convs/{k}/bias"] = (features,)
    return shapes


def _prompt_shapes(width: int | None) -> dict[str, Shape]:
    return {
        "prompt/embedding/linear/kernel": (None, width),
        "prompt/embedding/linear/bias": (width,),
        "prompt/skip/linear/kernel": (None, 1),
    }
