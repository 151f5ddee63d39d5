"""The similarity extractor: attention of a frozen encoder as S (Sec. 3.2.1)."""

from jaxtyping import Array, Float

from exits_jax.models.vit import VisionTransformer


def similarity(
    encoder: VisionTransformer,
    image: Float[Array, "b h w 3"],
    *,
    layers: tuple[int, ...],
) -> Float[Array, "b p p"]:
    """S: attention averaged over heads and over `layers`, class token removed.

    Args:
        encoder: The similarity extractor.
        image: Normalised crop.
        layers: One layer, several, or all of them (Table a1), counted from 1.
    """
    maps = encoder.attention(image, layers=layers)
    first = int(encoder.config.class_token)
    total = maps[0]
    for other in maps[1:]:
        total = total + other
    return total[:, first:, first:] / len(maps)
