"""Other grids and patch sizes: resampling of position tables and patch kernels."""

import numpy as np

from .shapes import is_generator, read_encoder


def resize_positions(
    params: dict[str, np.ndarray], grid: int
) -> tuple[dict[str, np.ndarray], str]:
    """Interpolates the position table to `grid` x `grid` patches.

    The kernel is the one that the encoder itself applies at run time: PyTorch's
    bicubic (a = -0.75, half-pixel centres, clamped edges, no anti-aliasing).

    Returns:
      The parameters and a line that says what was done.
    """
    from exits_jax.ops.resize import bicubic_matrix

    name = _name(params, "position_table")
    encoder = read_encoder(params)
    table, stored = params[name], encoder.grid or 0
    if stored == grid:
        return params, f"{name}: has a grid of {grid}x{grid} already"
    first = int(encoder.class_token)
    matrix = bicubic_matrix(stored, grid).astype(np.float64)
    cells = table[first:].reshape(stored, stored, -1).astype(np.float64)
    cells = np.einsum("ij,jkd->ikd", matrix, cells)
    cells = np.einsum("ij,kjd->kid", matrix, cells).reshape(grid * grid, -1)
    resized = np.concatenate([table[:first], cells.astype(np.float32)])
    said = f"{name}: interpolated from {stored}x{stored} to {grid}x{grid} patches"
    return params | {name: resized}, said


def resize_patches(
    params: dict[str, np.ndarray], patch_size: int
) -> tuple[dict[str, np.ndarray], str]:
    """Resamples the patch kernel to `patch_size` px (FlexiViT's pseudo-inverse).

    The new kernel gives an enlarged patch the embedding that the old one gave the
    patch itself; for smaller patches it is the nearest to that in least squares.

    Returns:
      The parameters and a line that says what was done.

    Raises:
      ValueError: the encoder has a convolutional stem.
    """
    from exits_jax.ops.resize import bicubic_matrix

    encoder = read_encoder(params)
    if encoder.stem != "patch":
        raise ValueError("--patch-size: a convolutional stem cannot be resampled.")
    name = _name(params, "patch_embedding/kernel")
    kernel, stored = params[name], encoder.patch_size or 0
    if stored == patch_size:
        return params, f"{name}: has patches of {patch_size} px already"
    enlarge = bicubic_matrix(stored, patch_size).astype(np.float64)
    matrix = np.linalg.pinv(enlarge.T)
    resampled = np.einsum("ij,kl,jlcd->ikcd", matrix, matrix, kernel, optimize=True)
    said = f"{name}: resampled from {stored} px to {patch_size} px patches"
    return params | {name: resampled.astype(np.float32)}, said


def _name(params: dict[str, np.ndarray], name: str) -> str:
    return f"encoder/{name}" if is_generator(params) else name
