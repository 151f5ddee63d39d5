"""The activation of the encoder."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def gelu(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Exact GELU, x times the normal distribution function of x, made in float32.

    `jax.nn.gelu` takes erfc, which XLA spreads over more than one loop, on CPUs and
    GPUs alike. What erf loses far below zero is 1e-7 of x at most.
    """
    exact = x.astype(jnp.float32)
    return (0.5 * exact * (1 + jax.lax.erf(exact * 2**-0.5))).astype(x.dtype)
