"""Clicks as input of the generator, added where they have no effect at the start.

Both ways in start as zeros: before the first step a generator with prompts gives the
logits of one without, and what an encoder was converted with stays exact.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from exits_jax.ops.prompts import NUM_CHANNELS

# Adam moves a weight by about the learning rate in a step, whatever its gradient: 500
# steps at 2e-4 bring it to 0.06. The walk's map wants some units, and with this gain it
# has 3.6 by then (drawn maps).
GAIN = 64.0


class PromptConfig(NamedTuple):
    """What a generator is told of the annotation; see `ops/prompts.py`."""

    walk: bool = True  # the walk's map is among the inputs
    sigma: float = 0.03  # of the clicks' heat maps, share of the crop's side


class Prompt(nnx.Module):
    """Both ways of the maps into a generator."""

    def __init__(
        self,
        dim: int,
        config: PromptConfig,
        *,
        ratio: int,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.config = config
        self.ratio = ratio
        self.embedding = PromptEmbedding(dim, ratio=ratio, dtype=dtype, rngs=rngs)
        self.skip = PromptSkip(rngs=rngs)


class PromptEmbedding(nnx.Module):
    """One linear map per patch, from the cells of the maps in it to the encoder."""

    def __init__(self, dim: int, *, ratio: int, dtype: DTypeLike, rngs: nnx.Rngs):
        self.ratio = ratio
        self.linear = nnx.Linear(
            ratio**2 * NUM_CHANNELS,
            dim,
            kernel_init=nnx.initializers.zeros,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, maps: Float[Array, "b g g c"]) -> Float[Array, "b n n d"]:
        """What is added to the patch tokens; sides are divided by the ratio."""
        batch, height, width, channels = maps.shape
        ratio = self.ratio
        rows, columns = height // ratio, width // ratio
        cells = maps.reshape(batch, rows, ratio, columns, ratio, channels)
        cells = cells.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows, columns, -1)
        return self.linear(cells)


class PromptSkip(nnx.Module):
    """One weight per map, past encoder and decoder: what it adds to the logits.

    The generator can say what the walk says by a single weight. There is no bias: the
    map of the box is one wherever a mask may be.
    """

    def __init__(self, *, rngs: nnx.Rngs):
        self.linear = nnx.Linear(
            NUM_CHANNELS,
            1,
            use_bias=False,
            kernel_init=nnx.initializers.zeros,
            precision=jax.lax.Precision.HIGHEST,
            rngs=rngs,
        )

    def __call__(self, maps: Float[Array, "b g g c"]) -> Float[Array, "b g g"]:
        """In units of logits, float32."""
        return GAIN * self.linear(maps.astype(jnp.float32))[..., 0]
