"""Resizing as the published networks do it: half-pixel centres, no anti-aliasing."""

import jax
import numpy as np
from jaxtyping import Array, Float


def resize_bilinear(
    x: Float[Array, "b h w c"], height: int, width: int
) -> Float[Array, "b height width c"]:
    """Bilinear resize of a feature map; halving is the mean of 2x2 cells.

    `jax.image.resize` blurs before shrinking unless told not to, which the networks
    of the paper do not.
    """
    shape = (x.shape[0], height, width, x.shape[3])
    if shape == x.shape:
        return x
    return jax.image.resize(x, shape, method="linear", antialias=False)


def resize_map(
    x: Float[Array, "b h w"], height: int, width: int
) -> Float[Array, "b height width"]:
    """`resize_bilinear` for maps without channels."""
    return resize_bilinear(x[..., None], height, width)[..., 0]


def bilinear_matrix(source: int, target: int) -> np.ndarray:
    """Weights [target, source] of `resize_bilinear` along one axis, float32."""
    centre = (np.arange(target) + 0.5) * source / target - 0.5
    weights = np.maximum(0, 1 - np.abs(centre[:, None] - np.arange(source)))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def bicubic_matrix(source: int, target: int, *, offset: float = 0.0) -> np.ndarray:
    """Weights [target, source] of a one-dimensional bicubic resize, float32.

    The kernel is the one of the position tables in PyTorch ViTs: a = -0.75, half-pixel
    centres, edges clamped, no anti-aliasing.

    Args:
        source: Cells of the stored table along one axis.
        target: Cells wanted.
        offset: Added to `target` when the scale is computed. The paper's baseline uses
            0.1, which shifts the far end by 0.04 of a cell; 0 is the exact scale.
    """
    a = -0.75
    centre = (np.arange(target) + 0.5) * source / (target + offset) - 0.5
    first = np.floor(centre).astype(int)
    weights = np.zeros((target, source))
    for tap in range(-1, 3):
        distance = np.abs(centre - (first + tap))
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        value = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
        column = np.clip(first + tap, 0, source - 1)
        np.add.at(weights, (np.arange(target), column), value)
    return weights.astype(np.float32)
