"""Floating point operations of a training step, counted by hand, per image.

A product of an [m, k] and a [k, n] matrix counts 2 m k n. What XLA reports cannot be
used: it counts the body of a loop once. Norms, softmax and activations are left out;
they are below 1 % of an encoder at full size.
"""

from typing import NamedTuple

import ml_collections as mlc

from exits_jax.models.mask_decoder import SCALES
from exits_jax.run.from_config import (
    encoder_config,
    point_options,
    training_sizes,
    uses_stored_labels,
)

_ENDLESS_HOPS = 14  # of a walk without limit that goes on with probability 1/4


class Sizes(NamedTuple):
    """All that the count depends on; `sizes_of` fills it from a configuration."""

    crop: int = 512  # px
    patch: int = 16  # px
    dim: int = 768
    depth: int = 12
    mlp_ratio: int = 4
    class_token: bool = True
    stem: str = "patch"
    extractor_stem: str = "patch"
    features: int = 256  # of the decoder's heads
    scales: tuple[float, ...] = (1.0, 2.0)  # all are computed for every crop
    upsample_before: int = 4
    mask_ratio: int = 4
    layers: tuple[int, ...] = (10,)  # whose attention is the similarity; from 1
    sinkhorn_rounds: int = 10
    num_hops: int | None = 3  # None: until convergence
    crf_rounds: int = 100
    stored_labels: bool = False  # made once per object, not in a step

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.crop // self.patch

    @property
    def tokens(self) -> int:
        """Tokens of the encoder."""
        return self.grid**2 + self.class_token


class StepFlops(NamedTuple):
    """Operations per image of a training step, by part."""

    student: float  # forward and backward
    recomputed: float  # of the forward pass, a second time: the price of memory
    teacher: float
    extractor: float
    retrieval: float  # Sinkhorn and propagation, or the warp of stored labels
    mean_field: float
    resizes: float  # image and maps, outside the networks

    @property
    def model(self) -> float:
        """What the method needs: the numerator of a utilisation."""
        return sum(self) - self.recomputed

    @property
    def hardware(self) -> float:
        """What the chip carries out."""
        return float(sum(self))


def step_flops(
    sizes: Sizes, *, remat: str = "none", attention: str = "together"
) -> StepFlops:
    """Counts one step of EXITS; optimizer and teacher average do not grow with images.

    Args:
        sizes: Of networks and crops.
        remat: `model.remat`, which decides what the backward pass computes again.
        attention: The way of `ops/attention.py`: all but "together" make the scores
            again. The padding of kernels is left out.
    """
    forward = encoder_flops(sizes, sizes.stem) + decoder_flops(sizes)
    mask = sizes.grid * sizes.mask_ratio
    return StepFlops(
        student=3 * forward,  # of each product, two more: for its input, its weights
        recomputed=_recomputed(sizes, remat, attention),
        teacher=forward,
        extractor=0.0 if sizes.stored_labels else extractor_flops(sizes),
        retrieval=_warp_flops(sizes) if sizes.stored_labels else retrieval_flops(sizes),
        mean_field=mean_field_flops(mask, sizes.crf_rounds),
        resizes=resize_flops(sizes.crop, mask, 3) + resize_flops(mask, sizes.grid, 1),
    )


def encoder_flops(sizes: Sizes, stem: str) -> float:
    """All blocks and the stem, forward."""
    linear, attention = _block(sizes)
    return stem_flops(sizes, stem) + sizes.depth * (linear + attention)


def extractor_flops(sizes: Sizes) -> float:
    """Blocks below the last layer asked for; of the layers themselves the attention."""
    linear, attention = _block(sizes)
    below = max(sizes.layers) - 1
    qkv = 6 * sizes.tokens * sizes.dim**2
    maps = len(set(sizes.layers)) * (qkv + attention / 2)
    return stem_flops(sizes, sizes.extractor_stem) + below * (linear + attention) + maps


def stem_flops(sizes: Sizes, stem: str) -> float:
    """From pixels to patches."""
    if stem == "patch":
        return 2.0 * sizes.grid**2 * 3 * sizes.patch**2 * sizes.dim
    halvings = sizes.patch.bit_length() - 1
    widths = [3] + [sizes.dim // 2 ** (halvings - k) for k in range(1, halvings + 1)]
    convs = sum(
        18.0 * (sizes.crop // 2**k) ** 2 * widths[k - 1] * widths[k]
        for k in range(1, halvings + 1)
    )
    return convs + 2.0 * sizes.grid**2 * sizes.dim**2


def decoder_flops(sizes: Sizes) -> float:
    """Pixel head at each scale, prototype head, inner product and resizes, forward."""
    heads = 2.0 * (sizes.dim + sizes.features) * sizes.features
    return heads + sum(_decoder_scale(sizes, scale) for scale in sizes.scales)


def _decoder_scale(sizes: Sizes, scale: float) -> float:
    side = max(1, round(sizes.grid * scale))
    total = resize_flops(sizes.grid, side, sizes.dim)
    inputs = sizes.dim
    for number in range(1, 5):
        if number == sizes.upsample_before:
            total += resize_flops(side, 2 * side, inputs)
            side *= 2
        total += 18.0 * side**2 * inputs * sizes.features
        inputs = sizes.features
    product = 2.0 * side**2 * sizes.features
    return total + product + resize_flops(side, sizes.grid * sizes.mask_ratio, 1)


def retrieval_flops(sizes: Sizes) -> float:
    """Two matrix-vector products per round of Sinkhorn, two vectors per hop."""
    points = sizes.grid**2
    sinkhorn = sizes.sinkhorn_rounds * 4.0 * points**2
    mix = 4.0 * points**2  # scaled on both sides, averaged with its transpose
    return sinkhorn + mix + (sizes.num_hops or _ENDLESS_HOPS) * 4.0 * points**2


def _warp_flops(sizes: Sizes) -> float:
    """Stored walk and stored mask, a dense matrix per axis each."""
    return sum(4.0 * side**3 for side in (sizes.grid, sizes.grid * sizes.mask_ratio))


def mean_field_flops(side: int, rounds: int) -> float:
    """Eight products and sums and about four more per pixel and round; four weights."""
    return float(side**2) * (rounds * (2 * 8 + 4) + 4 * 10)


def resize_flops(source: int, target: int, channels: int) -> float:
    """`jax.image.resize`: one dense matrix per axis."""
    if source == target:
        return 0.0
    return 2.0 * source * target * channels * (source + target)


def _block(sizes: Sizes) -> tuple[float, float]:
    """Linear layers and attention of one block, forward."""
    linear = (8 + 4 * sizes.mlp_ratio) * sizes.tokens * sizes.dim**2
    return float(linear), 4.0 * sizes.tokens**2 * sizes.dim


def _recomputed(sizes: Sizes, remat: str, way: str) -> float:
    linear, attention = _block(sizes)
    scores = attention / 2
    again = {
        "none": 0.0 if way == "together" else scores,
        "dots": scores,  # what attention gives is kept
        "block": linear + attention + (0.0 if way == "together" else scores),
    }
    if remat not in again:
        raise ValueError(f"Unknown remat {remat!r}; known: {', '.join(again)}.")
    return sizes.depth * again[remat]


def sizes_of(config: mlc.ConfigDict) -> Sizes:
    """The sizes that a configuration stands for."""
    encoder = encoder_config(config, role="generator")
    points = point_options(config, {})
    scales = tuple(SCALES[name] for name in training_sizes(config))
    if not config.decoder.size_dependent:
        scales = (config.decoder.fixed_scale,)
    return Sizes(
        crop=config.crop.size,
        patch=encoder.patch_size,
        dim=encoder.dim,
        depth=encoder.depth,
        mlp_ratio=encoder.mlp_ratio,
        class_token=encoder.class_token,
        stem=config.model.stem,
        extractor_stem=config.model.extractor_stem,
        features=config.decoder.features,
        scales=scales,
        upsample_before=config.decoder.upsample_before,
        layers=points.layers,
        sinkhorn_rounds=points.num_rounds,
        num_hops=points.num_hops,
        crf_rounds=config.loss.crf_rounds,
        stored_labels=uses_stored_labels(config),
    )
