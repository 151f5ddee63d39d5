"""From point sets to what the generator learns from (Sec. 3.2.2, Eq. 6 and 7)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt32

from exits_jax.ops.points import InitialPoints
from exits_jax.ops.retrieval import PseudoPoints


class Supervision(NamedTuple):
    """Point supervision of a batch of crops."""

    target: Float[Array, "b n n"]  # Y^, Eq. (6), 0 or 1
    known: Float[Array, "b n n"]  # K, Eq. (7), 0 or 1
    is_empty: Bool[Array, " b"]  # no point was retrieved: the MIL loss steps in


def drop_points(
    pseudo: PseudoPoints, seeds: UInt32[Array, " b"], *, dropout_rate: float
) -> PseudoPoints:
    """Point dropout: forgets each pseudo point with the given probability.

    Args:
        pseudo: The retrieved points.
        seeds: One seed per crop. It is the crop's own, so what is dropped depends
            neither on the batch nor on the device that holds the crop.
        dropout_rate: Share of points forgotten on average, 0.9 in the paper.

    Raises:
        ValueError: If `dropout_rate` is outside [0, 1].
    """
    if not 0 <= dropout_rate <= 1:
        raise ValueError(f"dropout_rate must lie in [0, 1], got {dropout_rate}.")
    num_points = pseudo.fg.shape[1]

    def keep_one(seed):
        keys = jax.random.split(jax.random.key(seed))
        keep = lambda key: jax.random.bernoulli(key, 1 - dropout_rate, (num_points,))
        return keep(keys[0]), keep(keys[1])

    keep_fg, keep_bg = jax.vmap(keep_one)(seeds)
    return pseudo._replace(fg=pseudo.fg & keep_fg, bg=pseudo.bg & keep_bg)


def supervision(
    initial: InitialPoints, pseudo: PseudoPoints, *, is_empty: Bool[Array, " b"]
) -> Supervision:
    """Target and mask of the point loss, Eq. (6) and Eq. (7).

    Args:
        initial: The point sets of the annotation; none of them is ever dropped.
        pseudo: The pseudo points that are left after dropout.
        is_empty: Whether the retrieval found nothing, decided before dropout.
    """
    batch, num_points = initial.fg.shape
    side = round(num_points**0.5)
    grid = lambda points: points.reshape(batch, side, side).astype(jnp.float32)
    foreground = initial.fg | pseudo.fg
    return Supervision(
        target=grid(foreground),
        known=grid(foreground | initial.bg | pseudo.bg),
        is_empty=is_empty,
    )
