"""Other grids and patch sizes: resampling of position tables and patch kernels."""

import numpy as np

from .shapes import Encoder, is_generator, is_joined_by_walk, part_of, read_encoder


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

    changed, said = {}, []
    for prefix, encoder in _encoders(params):
        name = f"{prefix}position_table"
        table, stored = params[name], encoder.grid or 0
        if stored == grid:
            said.append(f"{name}: has a grid of {grid}x{grid} already")
            continue
        first = int(encoder.class_token)
        matrix = bicubic_matrix(stored, grid).astype(np.float64)
        cells = table[first:].reshape(stored, stored, -1).astype(np.float64)
        cells = np.einsum("ij,jkd->ikd", matrix, cells)
        cells = np.einsum("ij,kjd->kid", matrix, cells).reshape(grid * grid, -1)
        changed[name] = np.concatenate([table[:first], cells.astype(np.float32)])
        said.append(
            f"{name}: interpolated from {stored}x{stored} to {grid}x{grid} patches"
        )
    return (params | changed if changed else params), "\n".join(said)


def resize_patches(
    params: dict[str, np.ndarray], patch_size: int
) -> tuple[dict[str, np.ndarray], str]:
    """Resamples the patch kernel to `patch_size` px (FlexiViT's pseudo-inverse).

    The new kernel gives an enlarged patch the embedding that the old one gave the
    patch itself; for smaller patches it is the nearest to that in least squares.

    Returns:
        The parameters and a line that says what was done.

    Raises:
        ValueError: The encoder has a convolutional stem.
    """
    from exits_jax.ops.resize import bicubic_matrix

    changed, said = {}, []
    for prefix, encoder in _encoders(params):
        if encoder.stem != "patch":
            raise ValueError("--patch-size: a convolutional stem cannot be resampled.")
        name = f"{prefix}patch_embedding/kernel"
        kernel, stored = params[name], encoder.patch_size or 0
        if stored == patch_size:
            said.append(f"{name}: has patches of {patch_size} px already")
            continue
        enlarge = bicubic_matrix(stored, patch_size).astype(np.float64)
        matrix = np.linalg.pinv(enlarge.T)
        resampled = np.einsum("ij,kl,jlcd->ikcd", matrix, matrix, kernel, optimize=True)
        changed[name] = resampled.astype(np.float32)
        said.append(f"{name}: resampled from {stored} px to {patch_size} px patches")
    return (params | changed if changed else params), "\n".join(said)


def _encoders(params: dict[str, np.ndarray]) -> list[tuple[str, Encoder]]:
    """Every encoder of a file: what its names begin with, and its sizes."""
    if not is_generator(params):
        return [("", read_encoder(params))]
    found = [("encoder/", read_encoder(params))]
    if is_joined_by_walk(params):
        found.append(("walk/", read_encoder(part_of(params, "walk"))))
    return found
