"""Maps of one crop of an object, seen in another crop of it."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from exits_jax.ops.transition import EXACT


def warp_maps(
    maps: Float[Array, "b g g"],
    region: Float[Array, "b 4"],
    *,
    crop_size: int,
    grid: int,
) -> Float[Array, "b n n"]:
    """Bilinear values at the cells of a crop, 0 where the maps do not reach.

    Crops are rectangles of the image, so each axis is resampled for itself: two small
    products per map.

    Args:
        maps: What is known of the object, on a grid over a region of the crop.
        region: That region, xyxy px of the crop; it may leave the crop.
        crop_size: Side of the square crop, px.
        grid: Cells along a side of the result.
    """
    across = _weights(region[:, 0], region[:, 2], maps.shape[2], crop_size, grid)
    down = _weights(region[:, 1], region[:, 3], maps.shape[1], crop_size, grid)
    return jnp.einsum("bni,bij,bmj->bnm", down, maps, across, precision=EXACT)


def _weights(
    low: Float[Array, " b"],
    high: Float[Array, " b"],
    source: int,
    crop_size: int,
    grid: int,
) -> Float[Array, "b n g"]:
    """Weight of each source cell for each cell of the crop, along one axis."""
    centre = (jnp.arange(grid) + 0.5) * (crop_size / grid)
    scale = source / jnp.maximum(high - low, 1e-3)
    at = (centre[None] - low[:, None]) * scale[:, None]  # in cells of the source
    is_inside = (at >= 0) & (at <= source)
    nearest = jnp.clip(at - 0.5, 0, source - 1)
    distance = jnp.abs(nearest[..., None] - jnp.arange(source)[None, None])
    return jnp.maximum(1 - distance, 0.0) * is_inside[..., None]
