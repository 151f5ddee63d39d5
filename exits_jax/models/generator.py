"""The pseudo label generator: ViT encoder and mask decoder (Sec. 3.2, Supp. A)."""

from flax import nnx
from jaxtyping import Array, Float

from exits_jax.models.mask_decoder import ALL_SIZES, DecoderConfig, MaskDecoder
from exits_jax.models.vit import VisionTransformer, VitConfig


class PseudoLabelGenerator(nnx.Module):
    """From a crop to the mask logits of the object it is centred on."""

    def __init__(self, encoder: VitConfig, decoder: DecoderConfig, *, rngs: nnx.Rngs):
        self.encoder = VisionTransformer(encoder, rngs=rngs)
        self.decoder = MaskDecoder(encoder.dim, decoder, rngs=rngs)

    def __call__(
        self,
        image: Float[Array, "b h w 3"],
        box_area: Float[Array, " b"],
        *,
        sizes: tuple[str, ...] = ALL_SIZES,
    ) -> Float[Array, "b m m"]:
        """Logits; see `MaskDecoder.__call__`."""
        return self.decoder(self.encoder(image), box_area, sizes=sizes)
