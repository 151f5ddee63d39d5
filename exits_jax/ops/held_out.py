"""How well a walk tells object from background, measured without any mask.

One extreme point and half of the background are left out of the starting sets. A walk
that works gives the hidden background lower scores than the hidden extreme point.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from exits_jax.ops.propagation import propagation_scores


def held_out_check(
    transition: Float[Array, "b p p"],
    cells: Float[Array, "b 4 p"],
    background: Bool[Array, "b p"],
    *,
    num_hops: int,
) -> Float[Array, " b"]:
    """Share of hidden background points that score below the hidden extreme point.

    Every extreme point is hidden in turn. 0.5 is chance, values well below it say
    that the walk prefers the other region, as inverted attention layers do.

    Args:
        transition: T of Eq. (2).
        cells: Cell of each extreme point, one-hot; see `seed_cells`.
        background: P_BG; every second cell of it is hidden.
        num_hops: Length of the walk.

    Returns:
        The share, in [0, 1]; 0.5 for a crop without hidden background.
    """
    side = round(cells.shape[2] ** 0.5)
    row, column = jnp.divmod(jnp.arange(side * side), side)
    is_hidden = ((row + column) % 2 == 0)[None]
    shown, hidden = background & ~is_hidden, background & is_hidden
    others = (cells.sum(axis=1, keepdims=True) - cells) / 3.0  # [B, 4, P]
    from_shown = shown / jnp.maximum(shown.sum(axis=1, keepdims=True), 1)
    start = jnp.concatenate([others, from_shown[:, None]], axis=1)
    scores = propagation_scores(transition, start, num_hops=num_hops)
    margin = scores[:, :4] - scores[:, 4:]
    of_point = (margin * cells).sum(axis=2, keepdims=True)  # [B, 4, 1]
    # A tie counts half, so that a walk that knows nothing is at chance.
    is_below = (margin < of_point) + 0.5 * (margin == of_point)
    count = hidden.sum(axis=1)
    total = (is_below * hidden[:, None]).sum(axis=(1, 2))
    share = total / jnp.maximum(4 * count, 1)
    return jnp.where(count > 0, share, 0.5)
