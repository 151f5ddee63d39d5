"""The point retrieval algorithm (Sec. 3.2.1 and 3.2.2 in one function)."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from exits_jax.ops.points import InitialPoints
from exits_jax.ops.propagation import converged_scores, propagation_scores
from exits_jax.ops.transition import sinkhorn_residual, transition_matrix

PAPER_POINTS = (
    1024  # a 512 px crop in cells of 16 px: what the thresholds are stated for
)


class PseudoPoints(NamedTuple):
    """Points of the box that the walk labels; `fg` and `bg` are disjoint."""

    fg: Bool[Array, "b p"]  # P^_FG
    bg: Bool[Array, "b p"]  # P^_BG
    margin: Float[Array, "b p"]  # pi^(f) - pi^(b), of every point
    residual: Float[Array, " b"]  # of Sinkhorn

    @property
    def is_empty(self) -> Bool[Array, " b"]:
        """Crops for which the retrieval failed: they fall back to the MIL loss."""
        return ~(self.fg | self.bg).any(axis=1)


def retrieve_points(
    similarity: Float[Array, "b p p"],
    initial: InitialPoints,
    *,
    num_hops: int | None,
    fg_threshold: float,
    bg_threshold: float,
    num_rounds: int = 10,
    blend: float = 0.25,
) -> PseudoPoints:
    """Labels the points in the box by where a random walk is likely to reach them.

    A crop without extreme points (annotated by a box alone) gets no pseudo points.

    Args:
        similarity: S, attention averaged over heads.
        initial: The point sets of the annotation.
        num_hops: alpha; None walks until convergence, Eq. (a2). Static.
        fg_threshold: tau_FG for a grid of 1024 points; scaled to the grid at hand.
        bg_threshold: tau_BG, likewise; not above `fg_threshold`.
        num_rounds: Rounds of Sinkhorn.
        blend: beta of Eq. (a2), used when `num_hops` is None.

    Raises:
        ValueError: If `bg_threshold` exceeds `fg_threshold`.
    """
    if bg_threshold > fg_threshold:
        raise ValueError(
            f"bg_threshold ({bg_threshold}) must not exceed fg_threshold "
            f"({fg_threshold}): points between the two stay unlabeled."
        )
    transition = transition_matrix(similarity, num_rounds=num_rounds)  # Eq. (2)
    start = jnp.stack([initial.fg_start, initial.bg_start], axis=1)
    if num_hops is None:
        scores = converged_scores(transition, start, blend=blend)  # Eq. (a2)
    else:
        scores = propagation_scores(transition, start, num_hops=num_hops)  # Eq. (3, 4)
    margin = scores[:, 0] - scores[:, 1]
    # The mean entry of T^alpha is 1 / P, so a threshold is a share of that mean.
    scale = PAPER_POINTS / similarity.shape[-1]
    candidates = initial.unlabeled & initial.fg.any(axis=1, keepdims=True)
    return PseudoPoints(  # Eq. (5)
        fg=candidates & (margin >= fg_threshold * scale),
        bg=candidates & (margin <= bg_threshold * scale),
        margin=margin,
        residual=sinkhorn_residual(transition),
    )
