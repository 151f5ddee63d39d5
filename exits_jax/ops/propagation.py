"""Random walks from labeled points (Sec. 3.2.2, Eq. 3, 4 and a2)."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from exits_jax.ops.transition import EXACT

_LEFT_OUT = 1e-8  # share of the walks that may be cut short


def propagation_scores(
    transition: Float[Array, "b p p"],
    start: Float[Array, "b s p"],
    *,
    num_hops: int,
) -> Float[Array, "b s p"]:
    """Mean probability of reaching each point from a starting set, Eq. (3) and Eq. (4).

    A distribution over the starting set is carried through the walk, one vector-matrix
    product per hop; the power of the matrix is never formed. Several sets share each
    pass over the matrix.

    Args:
        transition: T of Eq. (2). Entry (j, i) is the probability of the hop j -> i.
        start: Distribution of the walk's start for each of s sets; a set without
            members is all 0.
        num_hops: Length of the walk, alpha in the paper. Static.

    Returns:
        The scores pi. Non-negative; they sum to 1 over the points of a crop, or are
        all 0 for a set without members.

    Raises:
        ValueError: If `num_hops` is less than 1.
    """
    _check_hops(num_hops)
    scores = start.astype(transition.dtype)
    for _ in range(num_hops):
        scores = _hop(scores, transition)
    return scores


def converged_scores(
    transition: Float[Array, "b p p"],
    start: Float[Array, "b s p"],
    *,
    blend: float = 0.25,
) -> Float[Array, "b s p"]:
    """Scores of the walk with unlimited hops, Eq. (a2).

    (1 - blend) start (I - blend T)^-1 is where the walk ends up that returns to its
    start with probability 1 - blend at every hop. It is followed until fewer than one
    walk in 10^8 has never returned: hops of vectors again, and no system is solved.

    Args:
        transition: T of Eq. (2).
        start: Distribution of the walk's start for each of s sets.
        blend: beta, the share of the walk against the start. In [0, 1). Static.

    Raises:
        ValueError: If `blend` is outside [0, 1).
    """
    _check_blend(blend)
    start = start.astype(transition.dtype)

    def hop(_, scores):
        return (1 - blend) * start + blend * _hop(scores, transition)

    num_hops = math.ceil(math.log(_LEFT_OUT, blend)) if blend else 0
    return jax.lax.fori_loop(0, num_hops, hop, start)


def transition_power(
    transition: Float[Array, "b p p"], *, num_hops: int
) -> Float[Array, "b p p"]:
    """T^alpha, formed. For inspection and tests: p times dearer than the scores."""
    _check_hops(num_hops)
    power = transition
    for _ in range(num_hops - 1):
        power = jnp.matmul(power, transition, precision=EXACT)
    return power


def converged_transition(
    transition: Float[Array, "b p p"], *, blend: float = 0.25
) -> Float[Array, "b p p"]:
    """T^infinity of Eq. (a2), formed by a general solve. For inspection and tests."""
    _check_blend(blend)
    identity = jnp.eye(transition.shape[-1], dtype=transition.dtype)[None]
    system = identity - blend * transition
    return (1 - blend) * jnp.linalg.solve(
        system, jnp.broadcast_to(identity, system.shape)
    )


def _hop(
    scores: Float[Array, "b s p"], transition: Float[Array, "b p p"]
) -> Float[Array, "b s p"]:
    return jnp.einsum("bsj,bji->bsi", scores, transition, precision=EXACT)


def _check_hops(num_hops: int) -> None:
    if num_hops < 1:
        raise ValueError(f"num_hops must be at least 1, got {num_hops}.")


def _check_blend(blend: float) -> None:
    if not 0 <= blend < 1:
        raise ValueError(f"blend must lie in [0, 1), got {blend}.")
