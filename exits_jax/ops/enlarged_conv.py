"""A convolution of an enlarged map, from products at the map's own resolution."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from exits_jax.ops.resize import bilinear_matrix


def conv_of_enlarged(
    x: Float[Array, "b n n c"], kernel: Float[Array, "k k c f"], side: int
) -> Float[Array, "b side side f"]:
    """The convolution, padded with zeros, of a map enlarged bilinearly: for CPUs.

    Enlarging and convolving are linear, so each entry of the kernel is applied before
    the map is enlarged, at (n / side)^2 of the cost, and its result enlarged and
    shifted at once, by a product for each axis. The same number as a convolution of
    `resize_bilinear` but for rounding, and in float32 by far the faster on a CPU, its
    gradient above all.

    Args:
        x: Maps before they are enlarged.
        kernel: Of odd side k, in the order HWIO.
        side: Cells of the enlarged map along each axis.
    """
    batch, cells, _, channels = x.shape
    taps, _, _, features = kernel.shape
    matrix = jnp.asarray(_shifted(cells, side, taps), x.dtype)
    of_entries = kernel.transpose(2, 0, 1, 3).reshape(channels, -1)
    products = (x.reshape(-1, channels) @ of_entries).reshape(
        batch, cells, cells, taps, taps, features
    )
    rows = jnp.einsum("hki,bijklf->bhjlf", matrix, products)
    # A matrix for each row, though they are the same: then no row is transposed.
    rows = rows.reshape(batch * side, cells * taps, features)
    columns = matrix.swapaxes(1, 2).reshape(side, cells * taps)
    columns = jnp.broadcast_to(columns, (batch * side, *columns.shape))
    made = jnp.einsum("rwk,rkf->rwf", columns, rows)
    return made.reshape(batch, side, side, features)


def _shifted(source: int, target: int, taps: int) -> np.ndarray:
    """What entry k of a kernel reads at each place: weights [target, k, source]."""
    reach = taps // 2
    enlarge = np.pad(bilinear_matrix(source, target), ((reach, reach), (0, 0)))
    return np.stack([enlarge[tap : tap + target] for tap in range(taps)], axis=1)
