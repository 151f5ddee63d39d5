"""Losses, one value per crop (Eq. 1, 8 and 9). All in float32."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from exits_jax.ops.resize import resize_map

SMOOTHING = 1e-3  # in each of the two sums of the denominator, none in the numerator


def dice_loss(
    probs: Float[Array, "b ..."], target: Float[Array, "b ..."]
) -> Float[Array, " b"]:
    """1 - 2 <a, t> / (|a|^2 + |t|^2), over all entries of each crop.

    The form of the paper's baseline: squares in the denominator, smoothed by 1e-3 each.
    """
    axes = tuple(range(1, probs.ndim))
    overlap = (probs * target).sum(axis=axes)
    size = (probs**2).sum(axis=axes) + (target**2).sum(axis=axes)
    return 1 - 2 * overlap / (size + 2 * SMOOTHING)


def mil_loss(
    probs: Float[Array, "b h w"], box: Float[Array, "b h w"]
) -> Float[Array, " b"]:
    """Box-tightness loss on the two axis projections, Eq. (1)."""
    onto_x = dice_loss(probs.max(axis=1), box.max(axis=1))  # [B, W]
    onto_y = dice_loss(probs.max(axis=2), box.max(axis=2))  # [B, H]
    return onto_x + onto_y


def point_loss(
    probs: Float[Array, "b h w"],
    target: Float[Array, "b n n"],
    known: Float[Array, "b n n"],
    is_empty: Bool[Array, " b"],
    box: Float[Array, "b h w"],
    *,
    mil_weight: float,
    pooling: str = "bilinear",
) -> Float[Array, " b"]:
    """Dice loss on the labeled points, with the MIL loss where none was found, Eq. (8).

    Args:
        probs: M, the predicted mask.
        target: Y^ of Eq. (6).
        known: K of Eq. (7).
        is_empty: Crops whose retrieval failed.
        box: Box mask at the resolution of `probs`.
        mil_weight: lambda_mil.
        pooling: How M becomes M~, "bilinear" or "area"; see `grid_probs`.
    """
    grid = grid_probs(probs, target.shape[1], pooling=pooling)
    on_points = dice_loss(grid * known, target)
    return on_points + mil_weight * jnp.where(is_empty, mil_loss(probs, box), 0.0)


def crf_loss(
    probs: Float[Array, "b h w"], refined: Float[Array, "b h w"]
) -> Float[Array, " b"]:
    """Dice loss against what the mean field made of the prediction, Eq. (9)."""
    return dice_loss(probs, refined)


def robust_loss(
    probs: Float[Array, "b h w"], target: Float[Array, "b h w"], *, exponent: float
) -> Float[Array, " b"]:
    """Generalised cross entropy against soft labels, a part of which is wrong.

    (1 - p^q) / q of the label's own probability p, mean over the pixels (Zhang and
    Sabuncu 2018): cross entropy as q falls to 0, absolute error at 1, which lets the
    labels go that all the others speak against.

    Args:
        probs: The predicted mask.
        target: Its labels, in [0, 1].
        exponent: q, in (0, 1].
    """
    cost = lambda p: (1 - jnp.maximum(p, 1e-6) ** exponent) / exponent
    return (target * cost(probs) + (1 - target) * cost(1 - probs)).mean(axis=(1, 2))


def grid_probs(
    probs: Float[Array, "b h w"], grid: int, *, pooling: str
) -> Float[Array, "b n n"]:
    """M~: the prediction at the resolution of the points (Sec. 3.2.3).

    Args:
        probs: M; its sides are multiples of `grid`.
        grid: N, points per side.
        pooling: "bilinear" reads the centre of each cell (its middle 2x2 pixels),
            "area" averages the whole cell.

    Raises:
        ValueError: If `pooling` is neither.
    """
    if pooling == "bilinear":
        return resize_map(probs, grid, grid)
    if pooling == "area":
        batch, height, width = probs.shape
        cells = probs.reshape(batch, grid, height // grid, grid, width // grid)
        return cells.mean(axis=(2, 4))
    raise ValueError(f"Unknown pooling {pooling!r}; known: bilinear, area.")


def box_mask(
    box: Float[Array, "b 4"], *, crop_size: int, mask_size: int
) -> Float[Array, "b mask_size mask_size"]:
    """The box as a mask at the resolution of the logits, from geometry alone.

    A pixel of the crop is 1 if its centre lies in the box. At a lower resolution an
    edge takes the mean of the two crop pixels nearest to the centre on each axis.

    Args:
        box: xyxy, px of the crop.
        crop_size: Side of the crop, px.
        mask_size: Side of the mask wanted.
    """
    centre = jnp.arange(crop_size) + 0.5
    low, high = box[:, :2, None], box[:, 2:, None]
    inside = (centre[None, None] >= low) & (centre[None, None] < high)  # [B, xy, C]
    profile = resize_map(inside.astype(jnp.float32), 2, mask_size)
    return profile[:, 1, :, None] * profile[:, 0, None, :]
