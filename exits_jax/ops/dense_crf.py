"""Mean field of a fully connected CRF, by brute force on a small grid.

Every node is compared with every other one by position and colour (Krähenbühl and
Koltun 2011). On some hundred nodes the kernel fits into memory and no filter that
approximates it is needed: two products per round.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from exits_jax.ops.transition import EXACT

_SURE = 0.02  # probabilities are taken for no surer than this
# sRGB to XYZ, and the white point D65, both IEC 61966-2-1.
_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169))
_XYZ += ((0.019334, 0.119193, 0.950227),)
_WHITE = (0.950456, 1.0, 1.088754)


def dense_mean_field(
    lab: Float[Array, "b n n 3"],
    probability: Float[Array, "b n n"],
    inside: Float[Array, "b n n"],
    *,
    num_rounds: int,
    colour_weight: float,
    position_scale: float,
    colour_scale: float,
    smooth_weight: float,
    smooth_scale: float,
) -> Float[Array, "b n n"]:
    """Foreground probability after some rounds of the mean field.

    Args:
        lab: CIE Lab colour of each node.
        probability: What is refined; taken into [0.02, 0.98].
        inside: 1 where the object may be, else 0: such nodes count as background.
        num_rounds: Rounds. Static.
        colour_weight: Weight of the nodes near in position and colour together. Their
            kernel is normalised on both sides by the root of its row sums.
        position_scale: Standard deviation of position there, as a share of the side.
        colour_scale: Standard deviation of colour there, in Lab units.
        smooth_weight: Weight of the nodes near in position alone.
        smooth_scale: Standard deviation of position there, as a share of the side.

    Returns:
        The probability, 0 where nothing is inside.
    """
    num_rows, side = lab.shape[:2]
    at = (jnp.arange(side) + 0.5) / side
    y, x = jnp.meshgrid(at, at, indexing="ij")
    position = jnp.stack([x, y], axis=-1).reshape(1, -1, 2) / position_scale
    colour = lab.reshape(num_rows, -1, 3) / colour_scale
    near = _gauss(position) * _gauss(colour)
    scale = jax.lax.rsqrt(near.sum(axis=-1))
    smooth = jnp.exp(-((at[:, None] - at[None]) ** 2) / (2 * smooth_scale**2))
    smooth = smooth / smooth.sum(axis=1, keepdims=True)
    unary = jax.scipy.special.logit(jnp.clip(probability, _SURE, 1 - _SURE))

    def mean_field_round(found, _):
        belief = 2 * found - 1
        flat = scale * belief.reshape(num_rows, -1)
        alike = scale * jnp.einsum("bij,bj->bi", near, flat, precision=EXACT)
        around = jnp.einsum("ij,bjk,lk->bil", smooth, belief, smooth, precision=EXACT)
        energy = unary + colour_weight * alike.reshape(belief.shape)
        return jax.nn.sigmoid(energy + smooth_weight * around) * inside, None

    start = jax.nn.sigmoid(unary) * inside
    return jax.lax.scan(mean_field_round, start, length=num_rounds)[0]


def lab_of_nodes(image: Float[Array, "b h w 3"], side: int) -> Float[Array, "b n n 3"]:
    """Lab colour of the mean pixel of each node; `image` is sRGB in [0, 1]."""
    shape = (image.shape[0], side, side, 3)
    if image.shape[1] % side == 0:
        step = image.shape[1] // side
        cells = image.reshape(shape[0], side, step, side, step, 3)
        return lab(cells.mean(axis=(2, 4)))
    return lab(jax.image.resize(image, shape, method="linear"))


def lab(rgb: Float[Array, "*s 3"]) -> Float[Array, "*s 3"]:
    """CIE Lab (D65) of sRGB in [0, 1]; L in 0 to 100."""
    linear = jnp.where(
        rgb <= 0.04045, rgb / 12.92, ((jnp.maximum(rgb, 0) + 0.055) / 1.055) ** 2.4
    )
    white = jnp.array(_WHITE).reshape((1,) * (rgb.ndim - 1) + (3,))
    xyz = jnp.einsum("...c,kc->...k", linear, jnp.array(_XYZ), precision=EXACT) / white
    bent = jnp.where(xyz > 0.008856, jnp.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = bent[..., 0], bent[..., 1], bent[..., 2]
    return jnp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _gauss(features: Float[Array, "b p d"]) -> Float[Array, "b p p"]:
    """exp(-|f_i - f_j|^2 / 2) of all pairs."""
    half = 0.5 * (features**2).sum(axis=-1)
    product = jnp.einsum("bid,bjd->bij", features, features, precision=EXACT)
    return jnp.exp(jnp.minimum(product - half[:, :, None] - half[:, None], 0.0))
