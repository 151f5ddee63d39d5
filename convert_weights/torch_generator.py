"""The pseudo label generator in PyTorch, for inference: one file, to import or to copy.

It reads what `exits-jax convert WORKDIR --to=torch-generator --out=FILE` writes and
needs torch and safetensors, NumPy and Pillow beside them for `predict`, nothing else:

    model = load("generator.safetensors")
    mask, score = predict(model, image, clicks)  # uint8 [H, W, 3], [4, 2]
    logits = model(crops, box_area)  # [B, 3, S, S] in [0, 1] -> [B, S/4, S/4]

`crops` are square, `model.crop_size` px where training used that, and show the window
that `predict` cuts; `box_area` is width times height of the box in the image, px. A
generator that sees the clicks (`model.prompt`) wants them too, in px of the crop.
"""

import json
import math
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

SCALES = (0.5, 1.0, 2.0)  # of the patch features, for small, medium and large boxes
AREAS = (32**2, 96**2)  # px of the image: where medium and where large begins
NUM_MAPS = 7  # of a prompt: four clicks, depth, box, walk
GAIN = 64.0  # of the maps' weights past encoder and decoder
# Of a file that does not say it.
UNSAID = {"crop_size": "512", "test_margin": "0.6", "threshold": "0.1"}
_SHORT = 1e-3  # px; a shorter side of a polygon has no direction
_MIRRORED_ORDER = (0, 3, 2, 1)  # the left click becomes the right one


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
        self.patch_size = patch_size
        stem = ConvStem if conv_stem else PatchEmbedding
        self.patch_embed = stem(dim, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if class_token else None
        rows = grid * grid + class_token
        self.pos_embed = nn.Parameter(torch.zeros(1, rows, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """[B, 3, H, W], [B, N, N, D] to add to patches -> features [B, D, N, N]."""
        x = self.patch_embed(x)
        batch, dim, side, _ = x.shape
        first = int(self.cls_token is not None)
        x = x.flatten(2).transpose(1, 2) + self._positions(side)
        if added is not None:
            x = x + added.flatten(1, 2)
        if self.cls_token is not None:
            token = self.cls_token + self.pos_embed[:, :1]
            x = torch.cat([token.expand(batch, -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)[:, first:]
        return x.transpose(1, 2).reshape(batch, dim, side, side)

    @torch.no_grad()
    def fix_grid(self, side: int) -> None:
        """Interpolates the position table to `side` patches once and for all."""
        first = int(self.cls_token is not None)
        table = torch.cat([self.pos_embed[:, :first], self._positions(side)], dim=1)
        self.pos_embed = nn.Parameter(table, requires_grad=False)
        self.grid, self.position_offset = side, 0.0

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
        self.branches = True  # False: all scales for all rows, as a fixed graph needs
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
        if not self.branches:
            logits = self._logits(patches, prototype, SCALES[0])
            for smallest, scale in zip(AREAS, SCALES[1:]):
                scaled = self._logits(patches, prototype, scale)
                is_larger = (box_area >= smallest)[:, None, None]
                logits = torch.where(is_larger, scaled, logits)
            return logits
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
        convs = self.pixel_head["convs"]
        assert isinstance(convs, nn.ModuleList)
        for number, conv in enumerate(convs, start=1):
            if number == self.upsample_before:
                pixels = _resize(pixels, 2 * pixels.shape[-1])
            pixels = F.relu(conv(pixels))
        logits = torch.einsum("bchw,bc->bhw", pixels, prototype)
        return _resize(logits[:, None], 4 * side)[:, 0]


class Clicks(NamedTuple):
    """What was annotated of each object, in px of the crop."""

    extreme_points: Tensor  # [B, 4, 2], top, left, bottom, right as (x, y)
    has_points: Tensor  # bool [B]; False: a box alone
    box: Tensor  # [B, 4], xyxy


class Prompt(nn.Module):
    """The two ways of what was annotated into the generator, as maps."""

    def __init__(self, dim: int, ratio: int, sigma: float):
        super().__init__()
        self.ratio, self.sigma = ratio, sigma
        self.embedding = nn.Linear(ratio**2 * NUM_MAPS, dim)
        self.skip = nn.Linear(NUM_MAPS, 1, bias=False)

    def added(self, maps: Tensor) -> Tensor:
        """Maps [B, G, G, 7] -> what is added to the patches, [B, N, N, D]."""
        batch, grid, _, channels = maps.shape
        side, ratio = grid // self.ratio, self.ratio
        cells = maps.reshape(batch, side, ratio, side, ratio, channels)
        cells = cells.permute(0, 1, 3, 2, 4, 5).reshape(batch, side, side, -1)
        return self.embedding(cells)

    def maps(self, clicks: Clicks, crop_size: int, grid: int) -> Tensor:
        """Gaussians around clicks, depth in their quadrilateral, box: [B, G, G, 7].

        The last map is 0: the place of the walk, which is not computed here.
        """
        points, box = clicks.extreme_points, clicks.box
        centre = (torch.arange(grid, device=box.device) + 0.5) * (crop_size / grid)
        away = centre - points[..., None]  # [B, 4, xy, G]
        x, y = torch.exp(-(away**2) / (2 * (self.sigma * crop_size) ** 2)).unbind(2)
        heat = (y[..., None] * x[:, :, None]).permute(0, 2, 3, 1)  # [B, G, G, 4]
        depth = _depth(points, box, centre).clamp(-1, 1)[..., None]
        by_clicks = torch.cat([heat, depth], dim=-1)
        shown = clicks.has_points[:, None, None, None]
        by_clicks = torch.where(shown, by_clicks, torch.zeros_like(by_clicks))
        is_in = (centre >= box[:, :2, None]) & (centre <= box[:, 2:, None])
        of_box = (is_in[:, 1, :, None] & is_in[:, 0, None]).to(box.dtype)[..., None]
        return torch.cat([by_clicks, of_box, torch.zeros_like(of_box)], dim=-1)


class Generator(nn.Module):
    """Encoder and decoder, with the normalisation of the image before them."""

    image_mean: Tensor
    image_std: Tensor

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        prompt: Prompt | None,
        facts: dict[str, str],
    ):
        super().__init__()
        self.encoder, self.decoder, self.prompt = encoder, decoder, prompt
        facts = UNSAID | facts
        self.crop_size = int(facts["crop_size"])
        self.test_margin = float(facts["test_margin"])
        self.threshold = float(facts["threshold"])
        decided = json.loads(facts.get("inference", "{}"))
        self.flip = bool(decided.get("generate.flip", False))
        for name in ("image_mean", "image_std"):
            value = torch.tensor(json.loads(facts[name]))[:, None, None]
            self.register_buffer(name, value, persistent=False)

    def forward(
        self,
        crops: Tensor,
        box_area: Tensor,
        extreme_points: Tensor | None = None,
        has_points: Tensor | None = None,
        box: Tensor | None = None,
    ) -> Tensor:
        """Mask logits, 4 x 4 per patch, averaged with the mirror image's if `flip`.

        Args:
            crops: [B, 3, S, S] in [0, 1].
            box_area: [B], width times height of the box, px of the image.
            extreme_points: [B, 4, 2], top, left, bottom, right as (x, y), px of the
                crop; this and what follows is for a generator that sees the clicks.
            has_points: Bool [B]; False where there is a box alone.
            box: [B, 4], xyxy px of the crop.

        Raises:
            ValueError: If the generator sees the clicks and they are missing.
        """
        clicks = None
        if self.prompt is not None:
            if extreme_points is None or has_points is None or box is None:
                raise ValueError(
                    "This generator sees the clicks: extreme_points, has_points and "
                    "box are expected beside the crops."
                )
            clicks = Clicks(extreme_points, has_points, box)
        logits = self._logits(crops, box_area, clicks)
        if self.flip:
            mirrored = clicks and _mirrored(clicks, crops.shape[-1])
            other = self._logits(crops.flip(-1), box_area, mirrored)
            logits = (logits + other.flip(-1)) / 2
        return logits

    def _logits(self, crops: Tensor, box_area: Tensor, clicks: Clicks | None) -> Tensor:
        image = (crops - self.image_mean) / self.image_std
        if self.prompt is None or clicks is None:
            return self.decoder(self.encoder(image), box_area)
        kernel = self.encoder.patch_size // self.prompt.ratio
        size = crops.shape[-1]
        maps = self.prompt.maps(clicks, size, size // kernel)
        logits = self.decoder(self.encoder(image, self.prompt.added(maps)), box_area)
        return logits + GAIN * self.prompt.skip(maps)[..., 0]


def load(path: str) -> Generator:
    """The generator of a file that `--to=torch-generator` wrote."""
    with safe_open(path, framework="pt") as file:
        facts = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}
    return build(state, facts)


def build(state: dict[str, Tensor], facts: dict[str, str]) -> Generator:
    """The generator of tensors and metadata as such a file has them.

    Raises:
        ValueError: If the generator sees the walk from the clicks.
    """
    dim = int(facts["width"])
    encoder = Encoder(
        dim=dim,
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
    decoder = Decoder(dim, features, **json.loads(facts["decoder"]))
    prompt = None
    if "prompt.embedding.weight" in state:
        options = json.loads(facts["prompt"])
        if options["walk"]:
            raise ValueError("The generator sees the walk, which is not computed here.")
        ratio = math.isqrt(state["prompt.embedding.weight"].shape[1] // NUM_MAPS)
        prompt = Prompt(dim, ratio, options["sigma"])
    model = Generator(encoder, decoder, prompt, facts)
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def predict(model: Generator, image: Any, clicks: Any) -> tuple[Any, float]:
    """The mask of one object in an image.

    Args:
        model: As `load` gives it.
        image: NumPy uint8 [height, width, 3], RGB.
        clicks: Topmost, leftmost, bottommost and rightmost point, [4, 2], (x, y) px
            within the image, (0, 0) the centre of the first pixel; or a box alone, [4],
            (left, top, right, bottom) from edge to edge.

    Returns:
        The mask, NumPy bool [height, width], and the mean probability of its pixels.
    """
    import numpy as np
    from PIL import Image

    height, width = image.shape[:2]
    clicks = np.asarray(clicks, np.float64)
    has_points = clicks.shape == (4, 2)
    box = clicks  # edges; a click on a pixel's centre takes in the pixel
    if has_points:
        box = np.concatenate([clicks.min(axis=0), clicks.max(axis=0) + 1])
    low, high = box[:2], box[2:]
    centre, grown = (low + high) / 2, 1 + model.test_margin / 2
    x0, y0 = np.floor(centre - (centre - low) * grown).astype(int).tolist()
    x1, y1 = np.ceil(centre + (high - centre) * grown + 1).astype(int).tolist()
    # Beyond the image comes its opposite border.
    window = image.take(range(y0, y1), 0, mode="wrap")
    window = Image.fromarray(window.take(range(x0, x1), 1, mode="wrap"))
    size = model.crop_size
    crop = np.array(window.resize((size, size), Image.Resampling.BICUBIC))
    scale = size / np.array([x1 - x0, y1 - y0])
    points = np.zeros((4, 2))
    if has_points:
        points = (clicks + 0.5 - (x0, y0)) * scale
    in_crop = (box.reshape(2, 2) - (x0, y0)) * scale
    tensor = lambda x: torch.tensor(x, dtype=torch.float32)[None]
    with torch.inference_mode():
        logits = model(
            tensor(crop.transpose(2, 0, 1)) / 255,
            tensor((high - low).prod()),
            tensor(points),
            torch.tensor([has_points]),
            tensor(in_crop.reshape(4)),
        )
    stretched = F.interpolate(logits[None], (y1 - y0, x1 - x0), mode="bilinear")[0, 0]
    left, top = np.maximum(np.floor(low), 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(high), (width, height)).astype(int).tolist()
    part = stretched[top - y0 : bottom - y0, left - x0 : right - x0].numpy()
    kept = part > math.log(model.threshold / (1 - model.threshold))
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = kept
    probs = 1 / (1 + np.exp(-part[kept].astype(np.float64)))
    return mask, float(probs.mean()) if probs.size else 0.0


def _depth(points: Tensor, box: Tensor, centre: Tensor) -> Tensor:
    """Distance to the nearest side of the clicks' quadrilateral, positive inside.

    [B, 4, 2], [B, 4], [G] -> [B, G, G], in units of half the side of a square with the
    area of the box; 0 where all clicks are one.
    """
    corners = points[:, [0, 3, 2, 1]]  # clockwise in an image
    side = points[:, [3, 2, 1, 0]] - corners
    length = (side**2).sum(dim=-1).sqrt()
    normal = torch.stack([-side[..., 1], side[..., 0]], dim=-1)
    normal = (normal / length.clamp(min=_SHORT)[..., None])[:, None, None]
    corners = corners[:, None, None]
    x = centre[None, None, :, None] - corners[..., 0]  # [B, 1, G, 4]
    y = centre[None, :, None, None] - corners[..., 1]  # [B, G, 1, 4]
    depth = x * normal[..., 0] + y * normal[..., 1]
    has_length = (length > _SHORT)[:, None, None]
    far = torch.full_like(depth, 1e9)  # px; farther than any side
    depth = torch.where(has_length, depth, far).amin(dim=-1)
    area = (box[:, 2:] - box[:, :2]).prod(dim=1).clamp(min=1.0)
    depth = depth / (0.5 * area.sqrt())[:, None, None]
    return torch.where(has_length.any(dim=-1), depth, torch.zeros_like(depth))


def _mirrored(clicks: Clicks, size: int) -> Clicks:
    """As if the image had been mirrored left to right."""
    x, y = clicks.extreme_points[:, list(_MIRRORED_ORDER)].unbind(-1)
    x0, y0, x1, y1 = clicks.box.unbind(-1)
    box = torch.stack([size - x1, y0, size - x0, y1], dim=-1)
    return Clicks(torch.stack([size - x, y], dim=-1), clicks.has_points, box)


def _resize(x: Tensor, side: int) -> Tensor:
    if x.shape[-1] == side:
        return x
    return F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
