"""Mean-field refinement of a mask by the colours of its image (Eq. 9).

The paper takes its CRF from its baseline: a 3x3 window that includes the centre, a
colour kernel, and no unary term after the start, whose memory is the centre weight.

A round multiplies the neighbours' probabilities, each to the power of its weight, for
foreground and for background alike, and normalises the two products. In log-odds that
is one weighted sum, to which the box adds its own logarithm: there is nothing to
exponentiate, and clamping a probability is clamping its log-odds.

The baseline adds 1e-6 to the normaliser, which has no place in this form and asks for a
little more evidence of foreground where both products are tiny. With weights of sum W
they are no smaller than 0.3^W at a tie, so that in a plain window, W = 9, it asks for
0.05 more log-odds, which range over +-20, and for less where neighbours differ.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LOW, HIGH = 0.1, 0.9  # every probability is clamped to this range in every round
_LIMIT = math.log(HIGH / LOW)  # the same in log-odds: LOW is the mirror image of HIGH
_NO_BOX = (LOW / HIGH) ** 10  # outweighs a whole window: nine votes for foreground


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
    weights = _forward_weights(image, colour_scale)
    log_box = jnp.log(jnp.maximum(box, _NO_BOX))

    def refine(log_odds, _):
        votes = log_odds + _votes_of_neighbours(log_odds, weights) + log_box
        return jnp.clip(votes, -_LIMIT, _LIMIT), None

    start = jax.scipy.special.logit(jnp.clip(probs * box, LOW, HIGH))
    refined, _ = jax.lax.scan(refine, start, length=num_rounds)
    return (refined > 0).astype(probs.dtype) if hard else jax.nn.sigmoid(refined)


# Half of the window without its centre. A weight is the same seen from both ends, so
# the other half reads the same arrays from the neighbour's side.
_FORWARD = ((0, 1), (1, -1), (1, 0), (1, 1))


def _forward_weights(
    image: Float[Array, "b h w c"], colour_scale: float
) -> list[Float[Array, "b h+2 w+2"]]:
    """exp(-|I_i - I_j|^2 / 2 zeta^2) for the neighbours j in `_FORWARD`, padded.

    In the border around the image, and for neighbours that lie there, it is 0.
    """
    padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    exists = _pad(jnp.ones((1, *image.shape[1:3]), image.dtype))

    def weight(dy, dx):
        distance = ((image - _shifted(padded, dy, dx)) ** 2).sum(axis=-1)
        kernel = jnp.exp(-distance / (2 * colour_scale**2))
        return _pad(kernel * _shifted(exists, dy, dx))

    return [weight(dy, dx) for dy, dx in _FORWARD]


def _votes_of_neighbours(
    x: Float[Array, "b h w"], weights: list[Float[Array, "b h+2 w+2"]]
) -> Float[Array, "b h w"]:
    """Weighted sum over the eight pixels around each pixel."""
    padded = _pad(x)
    total = jnp.zeros_like(x)
    for (dy, dx), weight in zip(_FORWARD, weights, strict=True):
        total += _shifted(weight, 0, 0) * _shifted(padded, dy, dx)
        total += _shifted(weight, -dy, -dx) * _shifted(padded, -dy, -dx)
    return total


def _pad(x: Float[Array, "b h w"]) -> Float[Array, "b h+2 w+2"]:
    return jnp.pad(x, ((0, 0), (1, 1), (1, 1)))


def _shifted(
    padded: Float[Array, "b h w ..."], dy: int, dx: int
) -> Float[Array, "b h-2 w-2 ..."]:
    """What every pixel sees at (dy, dx) from itself."""
    height, width = padded.shape[1] - 2, padded.shape[2] - 2
    return padded[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
