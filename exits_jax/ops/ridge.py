"""What the walk found, told apart by the features of the same crop.

A linear classifier is fitted by ridge regression to the walk's probabilities, on the
cells of one crop alone: cells that look alike come to be labeled alike.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Bool, Float

from exits_jax.ops.transition import EXACT

_EXACT_TO = 1e-6  # of the right side: where the solver stops
_MOST_STEPS = 100


def ridge_probability(
    features: Float[Array, "b p d"],
    probability: Float[Array, "b p"],
    inside: Bool[Array, "b p"],
    outside: Bool[Array, "b p"],
    *,
    shrinkage: float,
    num_rounds: int,
    keep: float,
) -> Float[Array, "b p"]:
    """Foreground probability that a linear function of the features agrees with.

    The targets are 2 p - 1 inside the box and -1 outside, either side with the same
    total weight. In each round the fit's own answer replaces a part of the targets.

    Args:
        features: Patch features; their mean over the crop is removed here, and their
            length made 1.
        probability: Foreground probability that is to be refined.
        inside: Cells that may be object.
        outside: Cells known to be background; without one, the cells inside count.
        shrinkage: Weight of the squared coefficients. Above 0.
        num_rounds: Fits, each with the targets that the last one left. Static.
        keep: Share of `probability` that stays in every round.

    Returns:
        The refined probability, 0 where a cell is not inside.
    """
    x = features.astype(jnp.float32)
    x = x - x.mean(axis=1, keepdims=True)
    x = x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)
    num_inside = inside.sum(axis=1, keepdims=True)
    share = num_inside / jnp.maximum(outside.sum(axis=1, keepdims=True), 1)
    weight = inside + outside * share
    total = jnp.maximum(weight.sum(axis=1), 1e-6)
    # The offset is the weighted mean: centred once, it takes no part in the system.
    mean = jnp.einsum("bp,bpd->bd", weight, x, precision=EXACT) / total[:, None]
    x = x - mean[:, None]
    gram = jnp.einsum("bpd,bp,bpe->bde", x, weight, x, precision=EXACT)
    solve = jax.vmap(partial(_solve, shrinkage=shrinkage))
    start = jnp.where(inside, probability, 0.0)

    def refine(found, _):
        target = jnp.where(inside, 2 * found - 1, -1.0)
        offset = (weight * target).sum(axis=1) / total
        moment = jnp.einsum(
            "bpd,bp->bd", x, weight * (target - offset[:, None]), precision=EXACT
        )
        slope = solve(gram, moment)
        fit = offset[:, None] + jnp.einsum("bpd,bd->bp", x, slope, precision=EXACT)
        mixed = keep * probability + (1 - keep) * jnp.clip((fit + 1) / 2, 0, 1)
        return jnp.where(inside, mixed, 0.0), None

    return jax.lax.scan(refine, start, length=num_rounds)[0]


def _solve(
    gram: Float[Array, "d d"], moment: Float[Array, " d"], *, shrinkage: float
) -> Float[Array, " d"]:
    """(gram + shrinkage I)^-1 moment, by conjugate gradients.

    Products alone: fast on every device, where a factorisation is a call of LAPACK that
    XLA's thread pool on a CPU has been seen to wait for without end.
    """
    apply = lambda v: jnp.matmul(gram, v, precision=EXACT) + shrinkage * v
    return cg(apply, moment, tol=_EXACT_TO, maxiter=_MOST_STEPS)[0]
