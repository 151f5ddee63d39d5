"""The mean field of Eq. (9) in plain PyTorch: one `unfold` per round."""

import torch
from torch import Tensor
from torch.nn import functional as F


def mean_field(
    image: Tensor,
    probs: Tensor,
    box: Tensor,
    *,
    num_rounds: int = 100,
    colour_scale: float = 0.1,
) -> Tensor:
    """Image [B, 3, H, W], probabilities and box [B, H, W] -> mask of 0 and 1."""
    distance = ((image[:, :, None] - _windows(image)) ** 2).sum(dim=1)
    inside = _windows(torch.ones_like(image[:, :1]))[:, 0]
    kernel = torch.exp(-distance / (2 * colour_scale**2)) * inside  # [B, 9, H, W]
    x = (probs * box).clamp(0.1, 0.9)
    for _ in range(num_rounds):
        unary = torch.stack([torch.log(1 - x), torch.log(x)], dim=1)
        evidence = (kernel[:, None] * _windows(unary)).sum(dim=2).exp()
        bg, fg = evidence[:, 0], evidence[:, 1] * box
        x = (fg / (1e-6 + bg + fg)).clamp(0.1, 0.9)
    return (x > 0.5).to(probs.dtype)


def _windows(x: Tensor) -> Tensor:
    """[B, C, H, W] -> the 3x3 window of every pixel, [B, C, 9, H, W]."""
    batch, channels, height, width = x.shape
    return F.unfold(x, 3, padding=1).reshape(batch, channels, 9, height, width)
