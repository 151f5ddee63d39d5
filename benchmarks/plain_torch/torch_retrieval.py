"""Point retrieval in plain PyTorch, as the equations of the paper read (Sec. 3.2)."""

import torch
from torch import Tensor


def sinkhorn(similarity: Tensor, num_rounds: int) -> Tensor:
    """Divides columns by their sums, then rows, again and again."""
    matrix = similarity
    for _ in range(num_rounds):
        matrix = matrix / matrix.sum(dim=1, keepdim=True)
        matrix = matrix / matrix.sum(dim=2, keepdim=True)
    return matrix


def transition(similarity: Tensor, num_rounds: int) -> Tensor:
    """T of Eq. (2)."""
    matrix = sinkhorn(similarity, num_rounds)
    return (matrix + matrix.transpose(1, 2)) / 2


def scores(matrix: Tensor, start: Tensor, num_hops: int) -> Tensor:
    """Eq. (3) and (4): rows of T^alpha, averaged. [B, P, P], [B, 2, P] -> [B, 2, P]."""
    return start @ torch.linalg.matrix_power(matrix, num_hops)


def initial_points(
    batch: dict[str, Tensor],
    *,
    crop_size: int,
    patch_size: int,
    inward_margin_px: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Extreme points per cell [B, P]; background and box [B, P], bool.

    Cells wholly outside the box are background, those that show image alone.
    """
    grid = crop_size // patch_size
    inward = torch.tensor([[0, 1], [1, 0], [0, -1], [-1, 0]]) * inward_margin_px
    points = (batch["extreme_points"] + inward).clamp(0, crop_size - 1)
    cells = (points / patch_size).floor().long()
    counts = torch.zeros(len(points), grid * grid)
    flat = cells[..., 1] * grid + cells[..., 0]
    counts.scatter_add_(1, flat, torch.ones(flat.shape))
    low = torch.arange(grid) * float(patch_size)
    high = low + patch_size
    box, region = batch["box"][..., None], batch["valid_region"][..., None]
    overlaps = lambda k: (high > box[:, k] + 1e-3) & (low < box[:, k + 2] - 1e-3)
    within = lambda k: (low >= region[:, k] - 1e-3) & (high <= region[:, k + 2] + 1e-3)
    in_box = (overlaps(1)[:, :, None] & overlaps(0)[:, None]).flatten(1)
    in_image = (within(1)[:, :, None] & within(0)[:, None]).flatten(1)
    background = ~in_box & in_image
    nowhere = ~background.any(dim=1, keepdim=True)  # then padding has to do
    background = torch.where(nowhere, ~in_box, background)
    return counts, background & (counts == 0), in_box & (counts == 0)


def supervision(
    similarity: Tensor,
    points: tuple[Tensor, Tensor, Tensor],
    *,
    num_rounds: int,
    num_hops: int,
    fg_threshold: float,
    bg_threshold: float,
    dropout_rate: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. (2) to (7): target and known [B, N, N], and which crops have no points."""
    counts, bg, unlabeled = points
    fg = counts > 0
    uniform = bg / bg.sum(dim=1, keepdim=True).clamp(min=1)
    start = torch.stack([counts / 4, uniform], dim=1)
    found = scores(transition(similarity, num_rounds), start, num_hops)
    margin = found[:, 0] - found[:, 1]
    scale = 1024 / similarity.shape[-1]
    pseudo_fg = unlabeled & (margin >= fg_threshold * scale)
    pseudo_bg = unlabeled & (margin <= bg_threshold * scale)
    is_empty = ~(pseudo_fg | pseudo_bg).any(dim=1)
    kept = lambda chosen: chosen & (torch.rand(chosen.shape) >= dropout_rate)
    fg = fg | kept(pseudo_fg)
    known = fg | bg | kept(pseudo_bg)
    side = round(fg.shape[1] ** 0.5)
    grid = lambda chosen: chosen.float().reshape(-1, side, side)
    return grid(fg), grid(known), is_empty
