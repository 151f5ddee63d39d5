"""The pseudo label generator: ViT encoder and mask decoder (Sec. 3.2, Supp. A)."""

from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from exits_jax.models.mask_decoder import ALL_SIZES, DecoderConfig, MaskDecoder
from exits_jax.models.prompt import Prompt, PromptConfig
from exits_jax.models.vit import VisionTransformer, VitConfig


class GeneratorBuilder(NamedTuple):
    """Makes a generator of given sizes; equal ones make the same."""

    encoder: VitConfig
    decoder: DecoderConfig
    prompt: PromptConfig | None = None

    def __call__(self, rngs: nnx.Rngs) -> "PseudoLabelGenerator":
        """The module with parameters of its own."""
        return PseudoLabelGenerator(
            self.encoder, self.decoder, prompt=self.prompt, rngs=rngs
        )


class EncoderBuilder(NamedTuple):
    """Makes an encoder of given sizes; equal ones make the same."""

    config: VitConfig

    def __call__(self, rngs: nnx.Rngs) -> VisionTransformer:
        """The module with parameters of its own."""
        return VisionTransformer(self.config, rngs=rngs)


class PseudoLabelGenerator(nnx.Module):
    """From a crop to the mask logits of the object it is centred on."""

    def __init__(
        self,
        encoder: VitConfig,
        decoder: DecoderConfig,
        *,
        prompt: PromptConfig | None = None,
        rngs: nnx.Rngs,
    ):
        self.encoder = VisionTransformer(encoder, rngs=rngs)
        self.decoder = MaskDecoder(encoder.dim, decoder, rngs=rngs)
        self.prompt = (  # the last, so that all others draw the same with it
            None
            if prompt is None
            else Prompt(
                encoder.dim,
                prompt,
                ratio=decoder.mask_ratio,
                dtype=encoder.dtype,
                rngs=rngs,
            )
        )

    def __call__(
        self,
        image: Float[Array, "b h w 3"],
        box_area: Float[Array, " b"],
        prompt: Float[Array, "b m m c"] | None = None,
        *,
        sizes: tuple[str, ...] = ALL_SIZES,
    ) -> Float[Array, "b m m"]:
        """Logits; see `MaskDecoder.__call__`.

        Args:
            image: Normalised crop.
            box_area: Width times height of the annotated box, px of the image.
            prompt: The annotation as `ops/prompts.py: prompt_maps` draws it, at the
                resolution of the logits. None: the crop alone, as without prompts.
            sizes: Object sizes that occur in the batch.

        Raises:
            ValueError: If there is a prompt and no part of the model that reads it.
        """
        if prompt is None:
            return self.decoder(self.encoder(image), box_area, sizes=sizes)
        if self.prompt is None:
            raise ValueError("This generator was made without prompts.")
        patches = self.encoder(image, self.prompt.embedding(prompt))
        logits = self.decoder(patches, box_area, sizes=sizes)
        return logits.astype(jnp.float32) + self.prompt.skip(prompt)

    def mask_side(self, crop_size: int) -> int:
        """Side of the logits, and of a prompt, for crops of a side in px."""
        patches = crop_size // self.encoder.config.patch_size
        return patches * self.decoder.config.mask_ratio
