"""Largest differences between converted encoders and the originals, layer by layer.

Run:  python -m benchmarks.weight_parity [--sizes=tiny,small,base] [--pixels=224,512]

Needs timm and transformers beside PyTorch (CPU is enough). Weights are random and of
true shapes: nothing is downloaded. Prints a Markdown table of relative errors (largest
difference over largest entry, float32).
"""

import argparse
import contextlib
import io
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks.plain_torch.timm_alone import import_timm
from convert_weights.__main__ import main as convert
from exits_jax.models import params as trees
from exits_jax.models.vit import SIZES, VisionTransformer, vit_config
from exits_jax.models.weights import read_encoder

LAYER = 10  # of the attention, counted from 1, as in the paper
COLUMNS = ("patches", "worst block", "final norm", f"attention {LAYER}")


class Layers(NamedTuple):
    """What an encoder computes on the way, class token first."""

    patches: np.ndarray  # [1, P, D]
    blocks: list[np.ndarray]  # [1, 1 + P, D] each
    final: np.ndarray  # [1, 1 + P, D]
    attention: np.ndarray  # [1, 1 + P, 1 + P], averaged over heads


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="tiny,small,base")
    parser.add_argument("--pixels", default="224,512")
    parser.add_argument("--sources", default=",".join(SOURCES))
    args = parser.parse_args()
    print(f"| source | size | px | {' | '.join(COLUMNS)} |")
    print(f"| --- | --- | --- |{' --- |' * len(COLUMNS)}", flush=True)
    for size in args.sizes.split(","):
        for pixels in map(int, args.pixels.split(",")):
            for source in args.sources.split(","):
                errors = parity(source, size, pixels)
                cells = " | ".join(f"{error:.1e}" for error in errors)
                print(f"| {source} | {size} | {pixels} | {cells} |", flush=True)
    print()
    for pixels in map(int, args.pixels.split(",")):
        error = position_kernel_difference(pixels // 16)
        print(f"position table at {pixels} px, timm's kernel against ours: {error:.1e}")


def parity(source: str, size: str, pixels: int) -> tuple[float, ...]:
    """Relative errors of the `COLUMNS` for one of the `SOURCES`.

    Args:
        source: Which implementation, and so which names.
        size: "tiny", "small" or "base".
        pixels: Side of the image; positions are interpolated unless it is 224.
    """
    save, reference = SOURCES[source](size, pixels)
    with tempfile.TemporaryDirectory() as folder:
        return compare(save(Path(folder)), reference, size, pixels)


def compare(
    source: Path, reference: Callable, size: str, pixels: int
) -> tuple[float, ...]:
    """Relative errors of a converted file against a model that has its weights.

    Args:
        source: What is converted.
        reference: From an image [1, 3, H, W] to its `Layers`.
        size: "tiny", "small" or "base".
        pixels: Side of the image.
    """
    image = np.random.default_rng(1).normal(size=(1, 3, pixels, pixels))
    image = image.astype(np.float32)
    with torch.inference_mode():
        theirs = reference(torch.from_numpy(image))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.safetensors"
        with contextlib.redirect_stdout(io.StringIO()):
            status = convert([str(source), f"--out={out}"])
        assert status == 0, f"{source} is not converted"
        tree, _ = read_encoder(out)
    ours = Layers(
        *_ours(vit_config(size), tree, jnp.asarray(image.transpose(0, 2, 3, 1)))
    )
    blocks = zip(ours.blocks, theirs.blocks, strict=True)
    return (
        relative_error(ours.patches, theirs.patches),
        max(relative_error(mine, other) for mine, other in blocks),
        relative_error(ours.final, theirs.final),
        relative_error(ours.attention, theirs.attention),
    )


def relative_error(actual: Any, expected: np.ndarray) -> float:
    """Largest difference over the largest entry."""
    actual = np.asarray(actual, np.float64)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def position_kernel_difference(grid: int) -> float:
    """How far timm's resampled position table is from PyTorch's bicubic one.

    timm anti-aliases and thereby uses another cubic (a = -0.5); MAE, DINO and
    transformers use PyTorch's plain one (a = -0.75), as we do.
    """
    import_timm()
    from timm.layers import resample_abs_pos_embed

    table = torch.randn(1, 197, 192, generator=torch.Generator().manual_seed(0))
    theirs = resample_abs_pos_embed(table, [grid, grid], verbose=False)
    return relative_error(_resized(table, grid, 1).numpy(), theirs.numpy())


@partial(jax.jit, static_argnums=0)
def _ours(config, tree, image):
    graph = trees.abstract_graph(partial(_encoder, config))
    model = trees.bind(graph, tree)
    patches = model.patch_embedding(image)
    blocks = model.block_outputs(image)
    attention = model.attention(image, layers=(LAYER,))[0]
    return patches.reshape(1, -1, config.dim), blocks, model.norm(blocks[-1]), attention


def _encoder(config, rngs):
    return VisionTransformer(config, rngs=rngs)


def randomise(module: torch.nn.Module) -> None:
    """Weights large enough for uneven attention; no bias or scale is trivial."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, x in module.named_parameters():
            noise = torch.randn(x.shape, generator=generator)
            if "norm" in name and name.endswith("weight"):
                x.copy_(1 + 0.2 * noise)
            elif x.ndim >= 2 and name.endswith("weight"):
                x.copy_(noise * x[0].numel() ** -0.5)
            else:
                x.copy_(0.2 * noise)


def _timm(name: str, size: str, pixels: int):
    """A timm ViT and its own forward pass."""
    model = import_timm().create_model(name.format(size=size)).eval()
    randomise(model)
    state = {key: value.clone() for key, value in model.state_dict().items()}

    def save(folder: Path) -> Path:
        save_file(state, folder / "model.safetensors")
        return folder / "model.safetensors"

    if pixels != 224:  # as MAE and DINO do it; timm's own kernel is another one
        model.set_input_size(img_size=pixels)
        first = state["pos_embed"].shape[1] - 196
        model.pos_embed.data = _resized(state["pos_embed"], pixels // 16, first)
    return save, partial(run_timm, model)


def run_timm(model: Any, image: torch.Tensor) -> Layers:
    """What a ViT of timm computes on the way."""
    seen, handles = {}, []
    watch = lambda name, module: handles.append(_watch(seen, name, module))
    watch("patches", model.patch_embed)
    watch("norm", model.norm)
    watch("qkv", model.blocks[LAYER - 1].attn.qkv)
    for number, block in enumerate(model.blocks):
        watch(number, block)
    if getattr(model, "dist_token", None) is None:
        model.forward_features(image)
    else:  # the converted encoder has no distillation token: leave it out here too
        positions = model.pos_embed
        patches = model.patch_embed(image) + positions[:, 2:]
        tokens = torch.cat([model.cls_token + positions[:, :1], patches], dim=1)
        model.norm(model.blocks(tokens))
    _release(handles)
    query, key, _ = seen["qkv"].chunk(3, dim=-1)
    return _layers(seen, len(model.blocks), query, key, model.blocks[0].attn.num_heads)


def _npz(size: str, pixels: int):
    """Reads a drawn .npz of Google's layout with timm; ours reads the same."""
    timm = import_timm()
    dim, depth, heads = SIZES[size]
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    linear = lambda *shape: draw(*shape) * np.float32(dim**-0.5)
    arrays = {
        "cls": 0.2 * draw(1, 1, dim),
        "embedding/kernel": draw(16, 16, 3, dim) / np.float32(768**0.5),
        "embedding/bias": 0.2 * draw(dim),
        "Transformer/posembed_input/pos_embedding": 0.2 * draw(1, 197, dim),
        "Transformer/encoder_norm/scale": 1 + 0.2 * draw(dim),
        "Transformer/encoder_norm/bias": 0.2 * draw(dim),
        "head/kernel": linear(dim, 10),
        "head/bias": draw(10),
    }
    for i in range(depth):
        block = f"Transformer/encoderblock_{i}/"
        attention = f"{block}MultiHeadDotProductAttention_1/"
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            arrays[f"{block}{norm}/scale"] = 1 + 0.2 * draw(dim)
            arrays[f"{block}{norm}/bias"] = 0.2 * draw(dim)
        for part in ("query", "key", "value"):
            arrays[f"{attention}{part}/kernel"] = linear(dim, heads, dim // heads)
            arrays[f"{attention}{part}/bias"] = 0.2 * draw(heads, dim // heads)
        arrays[f"{attention}out/kernel"] = linear(heads, dim // heads, dim)
        arrays[f"{attention}out/bias"] = 0.2 * draw(dim)
        arrays[f"{block}MlpBlock_3/Dense_0/kernel"] = linear(dim, 4 * dim)
        arrays[f"{block}MlpBlock_3/Dense_0/bias"] = 0.2 * draw(4 * dim)
        arrays[f"{block}MlpBlock_3/Dense_1/kernel"] = linear(4 * dim, dim) / 2
        arrays[f"{block}MlpBlock_3/Dense_1/bias"] = 0.2 * draw(dim)

    def save(folder: Path) -> Path:
        np.savez(folder / "model.npz", **arrays)
        return folder / "model.npz"

    model = timm.create_model(f"vit_{size}_patch16_224", num_classes=10).eval()
    with tempfile.TemporaryDirectory() as folder:
        model.load_pretrained(str(save(Path(folder))))
    if pixels != 224:
        table = model.pos_embed.detach()
        model.set_input_size(img_size=pixels)
        model.pos_embed.data = _resized(table, pixels // 16, 1)
    return save, partial(run_timm, model)


def _transformers(name: str, size: str, pixels: int):
    """A model of transformers and its own forward pass, saved as it saves itself."""
    import transformers

    dim, depth, heads = SIZES[size]
    config = getattr(transformers, f"{name}Config")(
        hidden_size=dim,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=4 * dim,
        layer_norm_eps=1e-6,  # its default, 1e-12, is not what the weights have
    )
    if name == "ViTMAE":
        config.mask_ratio = 0.0
    model = getattr(transformers, f"{name}Model")(config).eval()
    randomise(model)

    def save(folder: Path) -> Path:
        transformers.utils.logging.disable_progress_bar()
        model.save_pretrained(folder / "hf")
        return folder / "hf"

    return save, partial(run_transformers, model)


def run_transformers(model: Any, image: torch.Tensor) -> Layers:
    """What a ViT of transformers computes on the way."""
    seen, handles = {}, []
    watch = lambda name, module: handles.append(_watch(seen, name, module))
    watch("patches", model.embeddings.patch_embeddings)
    watch("norm", model.layernorm)
    watch("query", model.layers[LAYER - 1].attention.q_proj)
    watch("key", model.layers[LAYER - 1].attention.k_proj)
    for number, block in enumerate(model.layers):
        watch(number, block)
    kind = type(model).__name__
    if kind == "DeiTModel":  # without the distillation token, as above
        embeddings = model.embeddings
        patches = embeddings.patch_embeddings(image)
        side = image.shape[-1] // 16
        positions = _resized(embeddings.position_embeddings, side, 2)
        token = embeddings.cls_token + positions[:, :1]
        tokens = torch.cat([token, patches + positions[:, 2:]], dim=1)
        for block in model.layers:
            tokens = block(tokens)
        model.layernorm(tokens)
    elif kind == "ViTMAEModel":  # its noise decides the order: keep that of the image
        order = torch.linspace(0, 1, (image.shape[-1] // 16) ** 2)[None]
        model(image, noise=order, interpolate_pos_encoding=True)
    else:
        model(image, interpolate_pos_encoding=True)
    _release(handles)
    heads = model.config.num_attention_heads
    return _layers(seen, len(model.layers), seen["query"], seen["key"], heads)


def _layers(seen: dict, depth: int, query, key, heads: int) -> Layers:
    split = lambda x: x.unflatten(-1, (heads, -1)).transpose(1, 2)
    query, key = split(query), split(key)
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    return Layers(
        patches=seen["patches"].numpy(),
        blocks=[seen[number].numpy() for number in range(depth)],
        final=seen["norm"].numpy(),
        attention=scores.softmax(dim=-1).mean(dim=1).numpy(),
    )


def _watch(seen: dict, name: Any, module: torch.nn.Module):
    def note(module, inputs, output):
        seen[name] = output[0] if isinstance(output, tuple) else output

    return module.register_forward_hook(note)


def _release(handles: list) -> None:
    for handle in handles:
        handle.remove()


def _resized(table: torch.Tensor, grid: int, first: int) -> torch.Tensor:
    """A position table by PyTorch's bicubic kernel; `first` rows are of no patch."""
    stored = round((table.shape[1] - first) ** 0.5)
    cells = table[:, first:].reshape(1, stored, stored, -1).permute(0, 3, 1, 2)
    cells = torch.nn.functional.interpolate(
        cells, size=(grid, grid), mode="bicubic", align_corners=False
    )
    return torch.cat([table[:, :first], cells.flatten(2).transpose(1, 2)], dim=1)


SOURCES: dict[str, Callable[[str, int], tuple[Callable, Callable]]] = {
    "timm vit": partial(_timm, "vit_{size}_patch16_224"),
    "timm deit": partial(_timm, "deit_{size}_patch16_224"),
    "timm deit distilled": partial(_timm, "deit_{size}_distilled_patch16_224"),
    "npz by timm": _npz,
    "transformers ViT": partial(_transformers, "ViT"),
    "transformers ViTMAE": partial(_transformers, "ViTMAE"),
    "transformers DeiT": partial(_transformers, "DeiT"),
}


if __name__ == "__main__":
    main()
