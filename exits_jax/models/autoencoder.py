"""A small masked autoencoder (He et al. 2022) that pre-trains an encoder on crops."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from exits_jax.models.vit import Block, VisionTransformer, VitConfig, sincos_table


class AutoencoderConfig(NamedTuple):
    """What the autoencoder adds to its encoder."""

    mask_ratio: float = 0.75  # share of the patches hidden from the encoder
    dim: int = 512  # width of the decoder
    depth: int = 1
    heads: int = 16
    normalise_targets: bool = False  # per patch, to zero mean and unit variance


class MaskedAutoencoder(nnx.Module):
    """Encodes a quarter of the patches and paints the others."""

    def __init__(
        self,
        encoder: VitConfig,
        config: AutoencoderConfig,
        *,
        grid: int,
        rngs: nnx.Rngs,
    ):
        if encoder.stem != "patch":
            raise ValueError(
                "A masked autoencoder needs the plain patch embedding: the overlapping "
                f"convolutions of the {encoder.stem!r} stem leak hidden pixels."
            )
        self.config, self.grid = config, grid
        decoder = encoder._replace(
            dim=config.dim, depth=config.depth, heads=config.heads, query_is_key=False
        )
        self.encoder = VisionTransformer(encoder, rngs=rngs)
        self.bridge = nnx.Linear(encoder.dim, config.dim, rngs=rngs)
        token = jax.random.normal(rngs.params(), (1, 1, config.dim)) * 0.02
        self.mask_token = nnx.Param(token)
        self.blocks = nnx.List([Block(decoder, rngs=rngs) for _ in range(config.depth)])
        self.norm = nnx.LayerNorm(config.dim, epsilon=1e-6, rngs=rngs)
        self.pixels = nnx.Linear(config.dim, 3 * encoder.patch_size**2, rngs=rngs)

    def __call__(
        self, image: Float[Array, "b h w 3"], keys: Key[Array, " b"]
    ) -> Float[Array, " b"]:
        """Mean squared error on the hidden patches of each crop.

        Args:
            image: Normalised crop.
            keys: Decide, crop by crop, which patches are hidden.
        """
        first = int(self.encoder.config.class_token)
        num_patches = self.grid**2
        num_kept = num_patches - int(self.config.mask_ratio * num_patches)
        noise = jax.vmap(lambda key: jax.random.uniform(key, (num_patches,)))(keys)
        order = jnp.argsort(noise, axis=1)
        encoded = self.encoder.encode(self.encoder.embed(image), order[:, :num_kept])
        visible = self.bridge(encoded)
        hidden = jnp.broadcast_to(
            self.mask_token[...],
            (image.shape[0], num_patches - num_kept, self.config.dim),
        )
        shuffled = jnp.concatenate([visible[:, first:], hidden], axis=1)
        place = jnp.argsort(order, axis=1)
        patches = jnp.take_along_axis(shuffled, place[..., None], axis=1)
        patches = patches + jnp.asarray(sincos_table(self.grid, self.config.dim))[None]
        tokens = jnp.concatenate([visible[:, :first], patches], axis=1)
        for block in self.blocks:
            tokens = block(tokens)
        painted = self.pixels(self.norm(tokens[:, first:]))
        error = ((painted - self._targets(image)) ** 2).mean(axis=-1)  # [B, P]
        is_hidden = (place >= num_kept).astype(error.dtype)
        return (error * is_hidden).sum(axis=1) / is_hidden.sum(axis=1)

    def _targets(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b p e"]:
        side = self.encoder.config.patch_size
        batch = image.shape[0]
        cells = image.reshape(batch, self.grid, side, self.grid, side, 3)
        cells = cells.transpose(0, 1, 3, 2, 4, 5).reshape(batch, self.grid**2, -1)
        if not self.config.normalise_targets:
            return cells
        mean = cells.mean(axis=-1, keepdims=True)
        spread = cells.std(axis=-1, keepdims=True)
        return (cells - mean) / (spread + 1e-3)
