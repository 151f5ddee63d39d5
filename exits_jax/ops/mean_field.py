"""Mean-field refinement of a mask by the colours of its image (Eq. 9).

The paper takes its CRF from its baseline: a 3x3 window that includes the centre, a
colour kernel, and no unary term after the start, whose memory is the centre weight.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LOW, HIGH = 0.1, 0.9  # every probability is clamped to this range in every round
_EPSILON = 1e-6  # in the normaliser, as in the baseline


def mean_field(
    image: Float[Array, "b h w c"],
    probs: Float[Array, "b h w"],
    box: Float[Array, "b h w"],
    *,
    num_rounds: int = 100,
    colour_scale: float = 0.1,
    hard: bool = True,
) -> Float[Array, "b h w"]:
    """The mask to which neighbours of like colour agree.

    Args:
        image: Normalised image at the resolution of the mask.
        probs: Foreground probability that starts the iteration.
        box: Box mask in [0, 1]; nothing outside it can become foreground.
        num_rounds: Rounds of mean field.
        colour_scale: zeta, in units of the normalised image.
        hard: True gives 0 or 1 (the target of the CRF loss, without a useful
            gradient), False the probabilities of the last round, differentiable in
            `probs`, `image` and `box`.
    """
    weights = _neighbour_weights(image, colour_scale)

    def refine(x, _):
        log_fg = _gather(jnp.log(x), weights)
        log_bg = _gather(jnp.log1p(-x), weights)
        fg, bg = box * jnp.exp(log_fg), jnp.exp(log_bg)
        return jnp.clip(fg / (_EPSILON + bg + fg), LOW, HIGH), None

    start = jnp.clip(probs * box, LOW, HIGH)
    refined, _ = jax.lax.scan(refine, start, length=num_rounds)
    return (refined > 0.5).astype(probs.dtype) if hard else refined


_OFFSETS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


def _neighbour_weights(
    image: Float[Array, "b h w c"], colour_scale: float
) -> list[Float[Array, "b h w"]]:
    """exp(-|I_i - I_j|^2 / 2 zeta^2) for the nine cells of a window; 0 off image."""
    height, width = image.shape[1:3]
    padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    exists = jnp.pad(jnp.ones((height, width), image.dtype), 1)

    def weight(dy, dx):
        rows, columns = slice(1 + dy, 1 + dy + height), slice(1 + dx, 1 + dx + width)
        distance = ((image - padded[:, rows, columns]) ** 2).sum(axis=-1)
        kernel = jnp.exp(-distance / (2 * colour_scale**2))
        return kernel * exists[None, rows, columns]

    return [weight(dy, dx) for dy, dx in _OFFSETS]


def _gather(
    x: Float[Array, "b h w"], weights: list[Float[Array, "b h w"]]
) -> Float[Array, "b h w"]:
    """Sum of the window around each pixel, weighted."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1)))
    total = jnp.zeros_like(x)
    for (dy, dx), weight in zip(_OFFSETS, weights, strict=True):
        rows, columns = slice(1 + dy, 1 + dy + height), slice(1 + dx, 1 + dx + width)
        total += weight * padded[:, rows, columns]
    return total
