"""Mask decoder (Supp. A), with the object-size-dependent scale of the baseline.

The paper puts the upsampling "between the second and third" of four convolutions; read
with counting from zero, as the baseline does it, that is before the last one.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from exits_jax.models.vit import torch_uniform, torch_uniform_bias
from exits_jax.object_sizes import AREAS
from exits_jax.ops.attention_choice import device
from exits_jax.ops.enlarged_conv import conv_of_enlarged
from exits_jax.ops.placement import keep_rows_split
from exits_jax.ops.resize import resize_bilinear, resize_map

# Scale of the patch features by size of the box, in the order of `AREAS`.
SCALES = {"small": 0.5, "medium": 1.0, "large": 2.0}
ALL_SIZES = tuple(SCALES)

_kaiming_fan_out = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")


class DecoderConfig(NamedTuple):
    """Sizes and options of a mask decoder."""

    features: int = 256  # channels of both heads, D/3 in the paper
    size_dependent: bool = True  # scale by the area of the annotated box
    fixed_scale: float = 1.0  # scale of every object if not `size_dependent`
    upsample_before: int = 4  # convolution before which features are doubled: 3 or 4
    mask_ratio: int = 4  # side of the logits over side of the patch grid
    dtype: DTypeLike = jnp.float32


class MaskDecoder(nnx.Module):
    """Mask logits as the inner product of pixel features and a prototype, Eq. (a1).

    The sigmoid of Eq. (a1) is left to the caller, so that losses can choose the
    numerically stable form.
    """

    def __init__(self, dim: int, config: DecoderConfig, *, rngs: nnx.Rngs):
        if config.upsample_before not in (3, 4):
            raise ValueError(
                f"upsample_before must be 3 or 4, got {config.upsample_before}."
            )
        self.config = config
        self.pixel_head = PixelHead(dim, config, rngs=rngs)
        self.prototype_head = PrototypeHead(dim, config, rngs=rngs)

    def __call__(
        self,
        patches: Float[Array, "b n n d"],
        box_area: Float[Array, " b"],
        *,
        sizes: tuple[str, ...] = ALL_SIZES,
    ) -> Float[Array, "b h w"]:
        """Logits, `mask_ratio` times finer than the patches.

        Every scale named in `sizes` is computed for the whole batch and each crop takes
        its own, so shapes never depend on the data. Training leaves out what its area
        filter does not let through.

        Args:
            patches: Encoder features.
            box_area: Width times height of the annotated box, px of the image.
            sizes: Object sizes that occur in the batch. Static. An object of a size
                that is left out is taken for the next smaller one, or else the
                smallest in use.

        Raises:
            ValueError: If a size is unknown or none is given.
        """
        side = patches.shape[1] * self.config.mask_ratio
        prototype = self.prototype_head(patches)
        if not self.config.size_dependent:
            return self._logits(patches, prototype, self.config.fixed_scale, side)
        if not sizes or not set(sizes) <= SCALES.keys():
            raise ValueError(
                f"Object sizes {sizes} must be one or more of the known: "
                f"{', '.join(SCALES)}."
            )
        smallest, *others = [size for size in SCALES if size in sizes]
        logits = self._logits(patches, prototype, SCALES[smallest], side)
        for size in others:
            scaled = self._logits(patches, prototype, SCALES[size], side)
            is_larger = box_area >= AREAS[size]
            logits = jnp.where(is_larger[:, None, None], scaled, logits)
        return logits

    def _logits(
        self, patches: Array, prototype: Array, scale: float, side: int
    ) -> Float[Array, "b h w"]:
        grid = max(1, round(patches.shape[1] * scale))
        pixels = self.pixel_head(patches, grid)
        logits = jnp.einsum(
            "bhwc,bc->bhw", pixels, prototype, preferred_element_type=jnp.float32
        )
        return resize_map(logits, side, side)


class PixelHead(nnx.Module):
    """Four 3x3 convolutions, a ReLU after each, and one doubling of the resolution."""

    def __init__(self, dim: int, config: DecoderConfig, *, rngs: nnx.Rngs):
        conv = partial(
            nnx.Conv,
            kernel_size=(3, 3),
            kernel_init=_kaiming_fan_out,
            dtype=config.dtype,
            rngs=rngs,
        )
        inputs = [dim] + 3 * [config.features]
        self.convs = nnx.List([conv(width, config.features) for width in inputs])
        self.upsample_before = config.upsample_before

    def __call__(
        self, patches: Float[Array, "b n n d"], grid: int
    ) -> Float[Array, "b h w c"]:
        """Pixel features at twice the resolution of the grid.

        Args:
            patches: Encoder features.
            grid: Side that they are resized to first.
        """
        x, side = patches, grid
        for number, conv in enumerate(self.convs, start=1):
            if number == self.upsample_before:
                side = 2 * grid
            x = jax.nn.relu(_conv_resized(conv, x, side))
        return x


def _conv_resized(conv: nnx.Conv, x: Array, side: int) -> Float[Array, "b h w c"]:
    # In float32 alone: of half precision what lies between would be rounded, too.
    is_float32 = jnp.dtype(conv.dtype or x.dtype) == jnp.float32
    if x.shape[1] >= side or not is_float32 or device().platform != "cpu":
        return conv(resize_bilinear(x, side, side))
    assert conv.bias is not None  # none of them is made without
    made = conv_of_enlarged(x.astype(jnp.float32), conv.kernel[...], side)
    return made + conv.bias[None, None, None]


class PrototypeHead(nnx.Module):
    """Average of the patches through two fully connected layers."""

    def __init__(self, dim: int, config: DecoderConfig, *, rngs: nnx.Rngs):
        linear = lambda inputs: nnx.Linear(
            inputs,
            config.features,
            kernel_init=torch_uniform,
            bias_init=torch_uniform_bias(inputs),
            dtype=config.dtype,
            rngs=rngs,
        )
        self.hidden = linear(dim)
        self.output = linear(config.features)

    def __call__(self, patches: Float[Array, "b n n d"]) -> Float[Array, "b c"]:
        """One vector per crop; its inner product with a pixel is the pixel's logit."""
        mean = patches.astype(jnp.float32).mean(axis=(1, 2)).astype(patches.dtype)
        hidden = keep_rows_split(jax.nn.relu(self.hidden(keep_rows_split(mean))))
        return keep_rows_split(self.output(hidden))
