"""From a batch to what a generator is told of its annotations."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from exits_jax.batch import Batch
from exits_jax.models.generator import PseudoLabelGenerator
from exits_jax.ops.clicks import Clicks
from exits_jax.ops.prompts import drop_prompts, jitter_clicks, prompt_maps

_MAPS = ("image", "student_image", "walk", "target", "known")  # [B, y, x, ...]
_BOXES = ("box", "valid_region")
_MIRRORED_ORDER = (0, 3, 2, 1)  # the left click becomes the right one


class PromptNoise(NamedTuple):
    """What training does to the student's prompts."""

    jitter: float = 0.0  # standard deviation of a click, share of the box's side
    dropout: float = 0.0  # share of crops whose clicks and walk are forgotten


NO_NOISE = PromptNoise()


def clicks_of(batch: Batch) -> Clicks:
    """The annotations of a batch."""
    return Clicks(
        extreme_points=batch["extreme_points"],
        has_points=batch["has_points"],
        box=batch["box"],
        valid_region=batch["valid_region"],
    )


def batch_prompts(
    model: PseudoLabelGenerator, batch: Batch, *, noise: PromptNoise = NO_NOISE
) -> Float[Array, "b m m c"] | None:
    """The prompts of a batch as the model wants them; None if it wants none.

    Raises:
        ValueError: If the batch lacks what they are made from.
    """
    if model.prompt is None:
        return None
    config = model.prompt.config
    needed = (*Clicks._fields, *(("walk",) if config.walk else ()))
    missing = [name for name in needed if name not in batch]
    if missing:
        raise ValueError(
            f"The generator's prompts are made from {', '.join(needed)}, but the batch "
            f"has no {', '.join(missing)}. prompt.walk=False does without the walk."
        )
    clicks = clicks_of(batch)
    walk = batch["walk"] if config.walk else None
    if noise.jitter:
        clicks = jitter_clicks(clicks, batch["seed"], share=noise.jitter)
    if noise.dropout:
        clicks, walk = drop_prompts(clicks, walk, batch["seed"], rate=noise.dropout)
    crop_size = batch["image"].shape[1]
    return prompt_maps(
        clicks,
        walk,
        crop_size=crop_size,
        grid=model.mask_side(crop_size),
        sigma=config.sigma,
    )


def mirror_batch(batch: Batch) -> Batch:
    """A batch as if its images had been mirrored left to right.

    Images, maps and geometry follow; the order of clicks stays top, left, bottom,
    right. `Window` does not: it says which pixels of the image a crop shows.
    """
    size = batch["image"].shape[2]
    mirrored = batch.copy()
    for name in _MAPS:
        if name in batch:
            mirrored[name] = batch[name][:, :, ::-1]
    for name in _BOXES:
        if name in batch:
            x0, y0, x1, y1 = (batch[name][:, i] for i in range(4))
            mirrored[name] = jnp.stack([size - x1, y0, size - x0, y1], axis=1)
    if "extreme_points" in batch:
        points = batch["extreme_points"][:, _MIRRORED_ORDER]
        points = jnp.stack([size - points[..., 0], points[..., 1]], axis=-1)
        has_points = batch["has_points"][:, None, None]  # absent ones stay zeros
        mirrored["extreme_points"] = jnp.where(
            has_points, points, batch["extreme_points"]
        )
    return mirrored
