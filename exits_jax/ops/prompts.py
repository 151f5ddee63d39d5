"""Clicks as maps that a generator sees beside the pixels, and how training spoils them.

An annotation says more than the points that are learnt from: where the object ends on
four sides, and, through the walk, what else is likely to belong to it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt32

from exits_jax.ops.clicks import Clicks, polygon_depth
from exits_jax.ops.resize import resize_map

NUM_CHANNELS = 7  # heat maps of four clicks, depth, box, walk
_SUREST = 0.98  # of the walk's probabilities; beyond it, it is no surer than that
_UNKNOWN = 0.5  # probability without evidence
# The crop's seed serves others too: numbers that no one else takes.
_JITTER, _FORGET = 0x6A697474, 0x666F7267


def prompt_maps(
    clicks: Clicks,
    walk: Float[Array, "b n n"] | None,
    *,
    crop_size: int,
    grid: int,
    sigma: float = 0.03,
) -> Float[Array, "b g g c"]:
    """What was annotated of each object as `NUM_CHANNELS` maps with values around 1.

    Channels 0 to 3 are a Gaussian around each click, top, left, bottom, right; 4 is the
    depth in their quadrilateral, from -1 to 1; 5 is 1 in the box; 6 is the evidence of
    the walk, its log-odds over 4. Of a box alone 0 to 4 are 0.

    Args:
        clicks: What was annotated.
        walk: Probability of each patch to belong to the object; None: channel 6 is 0.
        crop_size: Side of the crop, px.
        grid: Cells along a side of the maps.
        sigma: Standard deviation of the Gaussians, as a share of the crop's side.
    """
    centre = (jnp.arange(grid) + 0.5) * (crop_size / grid)
    width = sigma * crop_size
    away = lambda at: centre[None, None] - at[..., None]
    gauss = lambda at: jnp.exp(-(away(at) ** 2) / (2 * width**2))
    x, y = (gauss(clicks.extreme_points[..., axis]) for axis in (0, 1))  # [B, 4, G]
    heat = jnp.einsum("bky,bkx->byxk", y, x, precision=jax.lax.Precision.HIGHEST)
    depth = polygon_depth(
        clicks.extreme_points, clicks.box, crop_size=crop_size, grid=grid
    )
    by_clicks = jnp.concatenate([heat, jnp.clip(depth, -1, 1)[..., None]], axis=-1)
    by_clicks = jnp.where(clicks.has_points[:, None, None, None], by_clicks, 0.0)
    low, high = clicks.box[:, :2, None], clicks.box[:, 2:, None]
    is_in = (centre[None, None] >= low) & (centre[None, None] <= high)  # [B, xy, G]
    box = (is_in[:, 1, :, None] & is_in[:, 0, None, :]).astype(jnp.float32)
    evidence = jnp.zeros_like(box)
    if walk is not None:
        sure = jnp.clip(walk.astype(jnp.float32), 1 - _SUREST, _SUREST)
        evidence = resize_map(jnp.log(sure / (1 - sure)) / 4, grid, grid)
    return jnp.concatenate([by_clicks, box[..., None], evidence[..., None]], axis=-1)


def jitter_clicks(
    clicks: Clicks, seeds: UInt32[Array, " b"], *, share: float
) -> Clicks:
    """Moves each click by a normal step along both axes, within the box.

    Args:
        clicks: What was annotated.
        seeds: One seed per crop, see `ops/labels.py: drop_points`.
        share: Standard deviation of a step, as a share of the box's side.

    Raises:
        ValueError: If `share` is negative.
    """
    if share < 0:
        raise ValueError(f"share must be at least 0, got {share}.")
    if share == 0:
        return clicks
    low, high = clicks.box[:, None, :2], clicks.box[:, None, 2:]
    step = lambda seed: jax.random.normal(_key(seed, _JITTER), (4, 2))
    moved = clicks.extreme_points + share * (high - low) * jax.vmap(step)(seeds)
    moved = jnp.clip(moved, low, high)
    has_points = clicks.has_points[:, None, None]
    return clicks._replace(
        extreme_points=jnp.where(has_points, moved, clicks.extreme_points)
    )


def drop_prompts(
    clicks: Clicks,
    walk: Float[Array, "b n n"] | None,
    seeds: UInt32[Array, " b"],
    *,
    rate: float,
) -> tuple[Clicks, Float[Array, "b n n"] | None]:
    """Forgets all clicks of some crops, and their walk, so that boxes alone still work.

    Args:
        clicks: What was annotated.
        walk: Probability of each patch; 0.5, which is no evidence, where forgotten.
        seeds: One seed per crop, see `ops/labels.py: drop_points`.
        rate: Share of the crops that are left with their box on average.

    Raises:
        ValueError: If `rate` is outside [0, 1].
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must lie in [0, 1], got {rate}.")
    if rate == 0:
        return clicks, walk
    keep = lambda seed: jax.random.bernoulli(_key(seed, _FORGET), 1 - rate)
    kept: Bool[Array, " b"] = jax.vmap(keep)(seeds)
    if walk is not None:
        walk = jnp.where(kept[:, None, None], walk, _UNKNOWN)
    return clicks._replace(has_points=clicks.has_points & kept), walk


def _key(seed: UInt32[Array, ""], stream: int) -> Array:
    return jax.random.fold_in(jax.random.key(seed), stream)
