"""The encoder with converted weights against a plain PyTorch ViT, layer by layer."""

import os
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from convert_weights.__main__ import main
from exits_jax.models import params, weights
from exits_jax.models.vit import VisionTransformer, VitConfig

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.torch

F = torch.nn.functional
RTOL = 1e-5  # of the largest entry, float32

REAL = (
    Path(os.environ.get("EXITS_DATA", "/nonexistent")).parent
    / "weights/vit_tiny_patch16_224_distilled.safetensors"
)
SMALL = VitConfig(dim=48, depth=3, heads=4, patch_size=8, position_grid=4)
TINY = VitConfig(dim=192, depth=12, heads=3, patch_size=16, position_grid=14)


class TorchAttention(torch.nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = torch.nn.Linear(dim, 3 * dim)
        self.proj = torch.nn.Linear(dim, dim)

    def forward(self, x):
        batch, length, dim = x.shape
        q, k, v = (
            part.reshape(batch, length, self.heads, -1).transpose(1, 2)
            for part in self.qkv(x).split(dim, dim=-1)
        )
        scores = q @ k.transpose(-2, -1) / (dim // self.heads) ** 0.5
        probs = scores.softmax(dim=-1)
        mixed = (probs @ v).transpose(1, 2).reshape(batch, length, dim)
        return self.proj(mixed), probs


class TorchBlock(torch.nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1 = torch.nn.LayerNorm(dim, eps=1e-6)
        self.attn = TorchAttention(dim, heads)
        self.norm2 = torch.nn.LayerNorm(dim, eps=1e-6)
        self.mlp = torch.nn.ModuleDict(
            {"fc1": torch.nn.Linear(dim, 4 * dim), "fc2": torch.nn.Linear(4 * dim, dim)}
        )

    def forward(self, x):
        mixed, probs = self.attn(self.norm1(x))
        x = x + mixed
        hidden = F.gelu(self.mlp["fc1"](self.norm2(x)), approximate="none")
        return x + self.mlp["fc2"](hidden), probs


class TorchVit(torch.nn.Module):
    """The standard definition, with timm's names."""

    def __init__(self, config):
        super().__init__()
        dim, side = config.dim, config.patch_size
        self.cls_token = torch.nn.Parameter(torch.zeros(1, 1, dim))
        rows = 1 + config.position_grid**2
        self.pos_embed = torch.nn.Parameter(torch.zeros(1, rows, dim))
        self.patch_embed = torch.nn.ModuleDict(
            {"proj": torch.nn.Conv2d(3, dim, side, stride=side)}
        )
        self.blocks = torch.nn.ModuleList(
            TorchBlock(dim, config.heads) for _ in range(config.depth)
        )
        self.norm = torch.nn.LayerNorm(dim, eps=1e-6)

    def forward(self, image):
        patches = self.patch_embed["proj"](image).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(image), -1, -1), patches], dim=1)
        x = x + self.pos_embed
        embedded, outputs, attention = x, [], []
        for block in self.blocks:
            x, probs = block(x)
            outputs.append(x)
            attention.append(probs.mean(dim=1))
        return patches, embedded, outputs, attention, self.norm(x)


class Pair(NamedTuple):
    """The same image through both."""

    model: VisionTransformer
    image: np.ndarray
    patches: np.ndarray
    embedded: np.ndarray
    outputs: list[np.ndarray]
    attention: list[np.ndarray]
    final: np.ndarray


def randomise(module):
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


def pair(config, folder, source=None):
    reference = TorchVit(config)
    if source is None:
        randomise(reference)
        source = folder / "source.pth"
        torch.save({"model": reference.state_dict()}, source)
    else:
        from safetensors.torch import load_file

        reference.load_state_dict(load_file(source))
    out = folder / "out.safetensors"
    assert main([str(source), f"--out={out}"]) == 0

    build = lambda rngs: VisionTransformer(config, rngs=rngs)
    tree, _ = weights.read_encoder(out)
    model = params.bind(params.abstract_graph(build), tree)

    size = config.position_grid * config.patch_size
    image = np.random.default_rng(1).normal(size=(2, size, size, 3))
    image = image.astype(np.float32)
    with torch.no_grad():
        results = reference(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()))
    patches, embedded, outputs, attention, final = (
        [x.numpy() for x in value] if isinstance(value, list) else value.numpy()
        for value in results
    )
    return Pair(model, image, patches, embedded, outputs, attention, final)


@pytest.fixture(scope="module", params=["small", "tiny", "real"])
def both(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param != "real":
        return pair({"small": SMALL, "tiny": TINY}[request.param], folder)
    if "EXITS_DATA" not in os.environ or not REAL.exists():
        pytest.skip(f"needs EXITS_DATA and {REAL.name} beside it")
    return pair(TINY, folder, REAL)


def relative_error(actual, expected):
    actual = np.asarray(actual, np.float64)
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()


def test_patch_embedding_agrees(both):
    patches = both.model.patch_embedding(jnp.asarray(both.image))
    patches = patches.reshape(both.patches.shape)
    assert relative_error(patches, both.patches) < RTOL


def test_tokens_with_positions_agree(both):
    embedded = both.model.embed(jnp.asarray(both.image))
    assert relative_error(embedded, both.embedded) < RTOL


def test_every_block_output_agrees(both):
    run = nnx.jit(lambda model, image: model.block_outputs(image))
    outputs = run(both.model, jnp.asarray(both.image))
    errors = [relative_error(a, b) for a, b in zip(outputs, both.outputs, strict=True)]
    assert max(errors) < RTOL, errors


def test_final_norm_agrees(both):
    run = nnx.jit(lambda model, image: model.encode(model.embed(image)))
    final = run(both.model, jnp.asarray(both.image))
    assert relative_error(final, both.final) < RTOL


def test_patch_features_are_the_final_tokens_in_row_major_order(both):
    run = nnx.jit(lambda model, image: model(image))
    features = run(both.model, jnp.asarray(both.image))
    tokens = features.reshape(*both.patches.shape)
    assert relative_error(tokens, both.final[:, 1:]) < RTOL


def test_attention_of_chosen_layers_agrees(both):
    layers = (2, len(both.outputs))
    run = nnx.jit(lambda model, image: model.attention(image, layers=layers))
    attention = run(both.model, jnp.asarray(both.image))
    errors = [
        relative_error(actual, both.attention[layer - 1])
        for layer, actual in zip(layers, attention, strict=True)
    ]
    assert max(errors) < RTOL, errors
