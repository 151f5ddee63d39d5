"""Modules with drawn parameters: nothing is compiled to initialise them."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


def drawn(build, *, seed=0, scale=0.3):
    """Static graph and parameter tree of `build(rngs)`, every entry from a normal."""
    graph, state = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))
    rng = np.random.default_rng(seed)
    draw = lambda x: jnp.asarray(rng.normal(scale=scale, size=x.shape), x.dtype)
    return graph, jax.tree.map(draw, nnx.to_pure_dict(state))


def compiled(graph):
    """The call of a module as one compiled function of (parameters, ...)."""
    return jax.jit(
        lambda tree, *args, **static: nnx.merge(graph, tree)(*args, **static),
        static_argnames="sizes",
    )
