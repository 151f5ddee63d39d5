"""From similarities to a random walk (Sec. 3.2.1, Eq. 2)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Scores differ in the fourth digit: bfloat16 passes of a matrix unit would lose them.
EXACT = jax.lax.Precision.HIGHEST
_TINY = 1e-30


def transition_matrix(
    similarity: Float[Array, "b p p"], *, num_rounds: int = 10
) -> Float[Array, "b p p"]:
    """T = (A + A^T) / 2 with A = Sinkhorn(S), Eq. (2).

    Args:
        similarity: S, non-negative; every row and column has a positive entry.
        num_rounds: Rounds of Sinkhorn-Knopp, each columns first, then rows. Static.

    Returns:
        T, symmetric; rows and columns sum to 1 up to the residual of the last round.

    Raises:
        ValueError: If `num_rounds` is less than 1.
    """
    row_scale, column_scale = sinkhorn_scales(similarity, num_rounds=num_rounds)
    doubly_stochastic = (
        row_scale[:, :, None]
        * similarity.astype(jnp.float32)
        * column_scale[:, None, :]
    )
    return (doubly_stochastic + doubly_stochastic.mT) / 2


def sinkhorn_scales(
    similarity: Float[Array, "b p p"], *, num_rounds: int
) -> tuple[Float[Array, "b p"], Float[Array, "b p"]]:
    """The vectors r and c for which diag(r) S diag(c) is (nearly) doubly stochastic.

    Only the two vectors are iterated: a round costs two matrix-vector products and
    the matrix itself is written once, by the caller.
    """
    if num_rounds < 1:
        raise ValueError(f"num_rounds must be at least 1, got {num_rounds}.")
    matrix = similarity.astype(jnp.float32)

    def sinkhorn_round(_, scales):
        row_scale, _ = scales
        columns = jnp.einsum("bi,bij->bj", row_scale, matrix, precision=EXACT)
        column_scale = 1 / jnp.maximum(columns, _TINY)
        rows = jnp.einsum("bij,bj->bi", matrix, column_scale, precision=EXACT)
        return 1 / jnp.maximum(rows, _TINY), column_scale

    ones = jnp.ones(matrix.shape[:2], jnp.float32)
    return jax.lax.fori_loop(0, num_rounds, sinkhorn_round, (ones, ones))


def sinkhorn_residual(transition: Float[Array, "b p p"]) -> Float[Array, " b"]:
    """Largest distance of a row sum of T from 1: 0 when Sinkhorn has converged."""
    return jnp.abs(transition.sum(axis=2) - 1).max(axis=1)
