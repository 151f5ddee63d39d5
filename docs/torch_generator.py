"""The pseudo label generator in PyTorch, for inference: one file to copy.

It reads what `python -m convert_weights WORKDIR --to=torch-generator --out=FILE` writes
and needs torch and safetensors only:

    model = load("generator.safetensors")
    mask_logits = model(crops, box_area)  # [B, 3, S, S] in [0, 1] -> [B, S/4, S/4]

`crops` are square, `model.crop_size` px where training used that, and show the box with
`model.test_margin / 2` of its width and height on each side (a window that leaves the
image wraps around); `box_area` is width times height of the box in the image, px. A
pixel belongs to the object where sigmoid(logit) exceeds `model.threshold`, after the
logits were resized to the window (bilinear, half-pixel centres) and cut to the box.
"""

import json

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

SCALES = (0.5, 1.0, 2.0)  # of the patch features, for small, medium and large boxes
AREAS = (32**2, 96**2)  # px of the image: where medium and where large begins


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        batch, length, dim = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(batch, length, dim))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), with an exact GELU."""

    def __init__(self, dim: int, heads: int, hidden: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(dim, hidden), "fc2": nn.Linear(hidden, dim)}
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class PatchEmbedding(nn.Module):
    """One kernel per patch."""

    def __init__(self, dim: int, patch_size: int):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, D, N, N]."""
        return self.proj(x)


class ConvStem(nn.Module):
    """3x3 convolutions of stride 2, each with GroupNorm and GELU, then a 1x1."""

    def __init__(self, dim: int, patch_size: int):
        super().__init__()
        halvings = patch_size.bit_length() - 1
        widths = [3] + [dim // 2 ** (halvings - k) for k in range(1, halvings + 1)]
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
            for inputs, outputs in zip(widths[:-1], widths[1:])
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, w, eps=1e-6) for w in widths[1:])
        self.projection = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, D, N, N]."""
        for conv, norm in zip(self.convs, self.norms):
            x = F.gelu(norm(conv(x)))
        return self.projection(x)


class Encoder(nn.Module):
    """ViT whose position table is interpolated to the grid of the crop."""

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        heads: int,
        hidden: int,
        patch_size: int,
        grid: int,
        class_token: bool,
        conv_stem: bool,
        position_offset: float,
    ):
        super().__init__()
        self.grid, self.position_offset = grid, position_offset
        stem = ConvStem if conv_stem else PatchEmbedding
        self.patch_embed = stem(dim, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if class_token else None
        rows = grid * grid + class_token
        self.pos_embed = nn.Parameter(torch.zeros(1, rows, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> patch features [B, D, N, N]."""
        x = self.patch_embed(x)
        batch, dim, side, _ = x.shape
        first = int(self.cls_token is not None)
        x = x.flatten(2).transpose(1, 2) + self._positions(side)
        if self.cls_token is not None:
            token = self.cls_token + self.pos_embed[:, :1]
            x = torch.cat([token.expand(batch, -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)[:, first:]
        return x.transpose(1, 2).reshape(batch, dim, side, side)

    def _positions(self, side: int) -> Tensor:
        first = int(self.cls_token is not None)
        table = self.pos_embed[:, first:]
        if side == self.grid:
            return table
        dim = table.shape[-1]
        table = table.transpose(1, 2).reshape(1, dim, self.grid, self.grid)
        if self.position_offset:  # resized by a factor that is a little too large
            factor = (side + self.position_offset) / self.grid
            table = F.interpolate(table, scale_factor=(factor, factor), mode="bicubic")
        else:
            table = F.interpolate(table, size=(side, side), mode="bicubic")
        return table.flatten(2).transpose(1, 2)


class Decoder(nn.Module):
    """Mask logits: inner product of pixel features and a prototype of the object."""

    def __init__(
        self,
        dim: int,
        features: int,
        *,
        size_dependent: bool = True,
        fixed_scale: float = 1.0,
        upsample_before: int = 4,
    ):
        super().__init__()
        self.size_dependent, self.fixed_scale = size_dependent, fixed_scale
        self.upsample_before = upsample_before
        convs = [
            nn.Conv2d(dim if k == 0 else features, features, 3, padding=1)
            for k in range(4)
        ]
        self.pixel_head = nn.ModuleDict({"convs": nn.ModuleList(convs)})
        self.prototype_head = nn.ModuleDict(
            {
                "hidden": nn.Linear(dim, features),
                "output": nn.Linear(features, features),
            }
        )

    def forward(self, patches: Tensor, box_area: Tensor) -> Tensor:
        """[B, D, N, N], [B] -> logits [B, 4N, 4N]."""
        head = self.prototype_head
        prototype = head["output"](F.relu(head["hidden"](patches.mean(dim=(2, 3)))))
        if not self.size_dependent:
            return self._logits(patches, prototype, self.fixed_scale)
        edges = torch.tensor(AREAS, device=box_area.device, dtype=box_area.dtype)
        sizes = torch.bucketize(box_area, edges, right=True)
        side = 4 * patches.shape[-1]
        logits = patches.new_empty(len(patches), side, side)
        for size, scale in enumerate(SCALES):
            rows = sizes == size
            if rows.any():
                logits[rows] = self._logits(patches[rows], prototype[rows], scale)
        return logits

    def _logits(self, patches: Tensor, prototype: Tensor, scale: float) -> Tensor:
        side = patches.shape[-1]
        pixels = _resize(patches, max(1, round(side * scale)))
        for number, conv in enumerate(self.pixel_head["convs"], start=1):
            if number == self.upsample_before:
                pixels = _resize(pixels, 2 * pixels.shape[-1])
            pixels = F.relu(conv(pixels))
        logits = torch.einsum("bchw,bc->bhw", pixels, prototype)
        return _resize(logits[:, None], 4 * side)[:, 0]


class Generator(nn.Module):
    """Encoder and decoder, with the normalisation of the image before them."""

    def __init__(self, encoder: Encoder, decoder: Decoder, facts: dict[str, str]):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.crop_size = int(facts.get("crop_size", 512))
        self.test_margin = float(facts.get("test_margin", 0.6))
        self.threshold = float(facts.get("threshold", 0.1))
        for name in ("image_mean", "image_std"):
            value = torch.tensor(json.loads(facts[name]))[:, None, None]
            self.register_buffer(name, value, persistent=False)

    @torch.inference_mode()
    def forward(self, crops: Tensor, box_area: Tensor) -> Tensor:
        """Crops [B, 3, S, S] in [0, 1], box areas [B] -> mask logits, 4 per patch."""
        return self.decoder(
            self.encoder((crops - self.image_mean) / self.image_std), box_area
        )


def load(path: str) -> Generator:
    """The generator of a file that `--to=torch-generator` wrote."""
    with safe_open(path, framework="pt") as file:
        facts = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}
    encoder = Encoder(
        dim=int(facts["width"]),
        depth=int(facts["depth"]),
        heads=int(facts["heads"]),
        hidden=int(facts["mlp_width"]),
        patch_size=int(facts["patch_size"]),
        grid=int(facts["grid"]),
        class_token="encoder.cls_token" in state,
        conv_stem="encoder.patch_embed.projection.weight" in state,
        position_offset=float(facts.get("position_offset", 0)),
    )
    features = len(state["decoder.prototype_head.output.bias"])
    decoder = Decoder(int(facts["width"]), features, **json.loads(facts["decoder"]))
    model = Generator(encoder, decoder, facts)
    model.load_state_dict(state)
    return model.eval()


def _resize(x: Tensor, side: int) -> Tensor:
    if x.shape[-1] == side:
        return x
    return F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
