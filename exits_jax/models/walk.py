"""Masks without training: one pass of an encoder, then `ops/walk.py`."""

from jaxtyping import Array, Bool, Float

from exits_jax.models.vit import VisionTransformer
from exits_jax.ops.clicks import Clicks
from exits_jax.ops.walk import WalkOptions, walk_probability


def walk_map(
    encoder: VisionTransformer,
    image: Float[Array, "b h w 3"],
    clicks: Clicks,
    *,
    layers: tuple[int, ...],
    feature_block: int,
    options: WalkOptions,
    shown: Bool[Array, "b 4"] | None = None,
) -> Float[Array, "b n n"]:
    """Probability of each patch to belong to the clicked object.

    Args:
        encoder: Any encoder, trained or as it was converted.
        image: Normalised crops.
        clicks: What was annotated, in px of the crop.
        layers: Layers, counted from 1, whose attention is averaged.
        feature_block: Block, likewise, whose output the linear classifier sees.
        options: See `WalkOptions`.
        shown: False for clicks that are to be left out; None shows all.
    """
    wants_features = options.ridge_rounds > 0
    maps, features = encoder.attention_and_features(
        image, layers=layers, block=feature_block if wants_features else None
    )
    first = int(encoder.config.class_token)
    similarity = sum(maps[1:], maps[0])[:, first:, first:] / len(maps)
    return walk_probability(
        similarity,
        None if features is None else features[:, first:],
        clicks,
        crop_size=image.shape[1],
        options=options,
        shown=shown,
    )
