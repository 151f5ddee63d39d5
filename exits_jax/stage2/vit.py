"""A plain ViT as an mmdet backbone: what a CPU can train, from weights like stage 1's.

Not in the paper. ResNets from random weights learn nothing in an hour of a CPU; a small
pretrained ViT does. `python -m convert_weights FILE --to=timm --out=vit.safetensors`
writes what it reads.
"""

from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from exits_jax.stage2.errors import Stage2Error

# timm's name of each part of a block, and that of PyTorch's own encoder layer
_RENAMED = {
    "norm1.": "norm1.",
    "attn.qkv.": "self_attn.in_proj_",
    "attn.proj.": "self_attn.out_proj.",
    "norm2.": "norm2.",
    "mlp.fc1.": "linear1.",
    "mlp.fc2.": "linear2.",
}


@MODELS.register_module()
class PlainViT(BaseModule):
    """Encoder blocks at stride 16, and feature maps of strides 8, 16 and 32 from them.

    A transposed convolution makes the finer map, a maximum the coarser one, as in
    plain-backbone detection (Li et al., 2022).
    """

    def __init__(
        self,
        dim: int = 192,
        depth: int = 12,
        heads: int = 3,
        patch_size: int = 16,
        grid: int = 14,
        frozen_blocks: int = 0,
        init_cfg: dict | None = None,
    ):
        """Builds the backbone.

        Args:
            dim: Width of the tokens.
            depth: How many blocks.
            heads: Of the attention.
            patch_size: In px.
            grid: The position table is for grid x grid patches; it is interpolated.
            frozen_blocks: So many first blocks, and the embedding, are not trained.
            init_cfg: `{"type": "Pretrained", "checkpoint": FILE.safetensors}`.
        """
        super().__init__(init_cfg)
        self.patch_embed = nn.Conv2d(3, dim, patch_size, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, dim))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim,
                heads,
                4 * dim,
                dropout=0.0,
                activation="gelu",
                layer_norm_eps=1e-6,
                batch_first=True,
                norm_first=True,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.finer = nn.ConvTranspose2d(dim, dim, 2, 2)
        self.grid, self.frozen_blocks = grid, frozen_blocks

    def init_weights(self) -> None:
        """Reads the weights of `init_cfg`, where there are any.

        Raises:
            Stage2Error: If the file cannot be read or is of another model.
        """
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        if self.init_cfg:
            self._load(Path(self.init_cfg["checkpoint"]))
        for part in (self.patch_embed, *self.blocks[: self.frozen_blocks]):
            part.requires_grad_(self.frozen_blocks == 0)
        self.cls_token.requires_grad_(self.frozen_blocks == 0)
        self.pos_embed.requires_grad_(self.frozen_blocks == 0)

    def _load(self, path: Path) -> None:
        try:
            found = load_file(path)
        except (OSError, SafetensorError) as error:
            raise Stage2Error(f"The weights {path} cannot be read: {error}") from error
        named = {_own_name(name): tensor for name, tensor in found.items()}
        own = {k: v for k, v in self.state_dict().items() if not k.startswith("finer.")}
        wrong = [
            k for k, v in own.items() if k not in named or named[k].shape != v.shape
        ]
        if wrong:
            raise Stage2Error(
                f"The weights {path} are of another model: {len(wrong)} of {len(own)} "
                f"tensors are missing or of another shape, such as {wrong[0]}."
            )
        self.load_state_dict({k: named[k] for k in own}, strict=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 3, H, W] -> maps of D channels at strides 8, 16 and 32."""
        patches = self.patch_embed(image)
        height, width = patches.shape[-2:]
        tokens = patches.flatten(2).transpose(1, 2) + self._positions(height, width)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        tokens = torch.cat([first, tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        maps = self.norm(tokens)[:, 1:].transpose(1, 2).reshape(patches.shape)
        return self.finer(maps), maps, F.max_pool2d(maps, 2, ceil_mode=True)

    def _positions(self, height: int, width: int) -> Tensor:
        table = self.pos_embed[:, 1:].reshape(1, self.grid, self.grid, -1)
        table = F.interpolate(
            table.permute(0, 3, 1, 2), (height, width), mode="bicubic"
        )
        return table.flatten(2).transpose(1, 2)


def _own_name(name: str) -> str:
    if name.startswith("patch_embed.proj."):
        return name.replace("proj.", "", 1)
    for theirs, ours in _RENAMED.items():
        head, found, tail = name.partition(f".{theirs}")
        if found and head.startswith("blocks."):
            return f"{head}.{ours}{tail}"
    return name
