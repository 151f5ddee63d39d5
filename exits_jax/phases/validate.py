"""What can be known of a configuration before anything is read or compiled."""

from typing import Any

import jax
import ml_collections as mlc

from exits_jax.models.vit import INITS
from exits_jax.phases.options import encoder_config
from exits_jax.phases.workdir import ConfigError


def validate(config: mlc.ConfigDict) -> None:
    """Checks what can be known before anything is read or compiled.

    Raises:
        ConfigError: With every fault, one per line.
    """
    faults = []

    def expect(holds: bool, message: str) -> None:
        if not holds:
            faults.append(message)

    def choice(name: str, value: Any, known: tuple[str, ...]) -> None:
        expect(value in known, f"{name} = {value!r}: known are {', '.join(known)}.")

    devices = jax.device_count()
    size, patch = config.crop.size, config.model.patch_size
    expect(
        config.batch_size % devices == 0,
        f"batch_size = {config.batch_size} is not a multiple of the {devices} devices.",
    )
    expect(
        config.generate.batch_size % devices == 0,
        f"generate.batch_size = {config.generate.batch_size} is not a multiple of the "
        f"{devices} devices.",
    )
    expect(
        size % patch == 0, f"crop.size = {size} is no multiple of {patch} px patches."
    )
    expect(
        0 <= config.points.inward_margin_px < size / 2,
        f"points.inward_margin_px = {config.points.inward_margin_px}: "
        f"must be at least 0 and less than half the crop ({size / 2}).",
    )
    expect(
        config.points.bg_threshold <= config.points.fg_threshold,
        "points.bg_threshold must not exceed points.fg_threshold.",
    )
    expect(config.points.num_hops >= 1, "points.num_hops must be at least 1.")
    expect(
        0 <= config.points.dropout_rate <= 1,
        f"points.dropout_rate = {config.points.dropout_rate}: must lie in [0, 1].",
    )
    expect(
        0 < config.generate.threshold < 1,
        f"generate.threshold = {config.generate.threshold}: must lie in (0, 1).",
    )
    expect(
        config.optimizer.lr_per_sample > 0, "optimizer.lr_per_sample must be positive."
    )
    for section in ("pretrain", "warmup", "train"):
        lr, steps = config[section].lr, config[section].steps
        expect(lr is None or lr > 0, f"{section}.lr = {lr}: must be positive.")
        expect(
            steps is None or steps > 0, f"{section}.steps = {steps}: must be positive."
        )
        expect(config[section].epochs > 0, f"{section}.epochs must be positive.")
    choice("data.points", config.data.points, ("extremenet", "clean"))
    choice("data.on_bad", config.data.on_bad, ("skip", "error"))
    choice("loss.method", config.loss.method, ("exits", "mil_crf"))
    choice("loss.pooling", config.loss.pooling, ("bilinear", "area"))
    choice("loss.crf_image", config.loss.crf_image, ("student", "clean"))
    choice("points.walk", config.points.walk, ("hops", "converged"))
    choice("points.background", config.points.background, ("outside", "centre"))
    choice("model.dtype", config.model.dtype, ("float32", "bfloat16"))
    choice("model.extractor_init", config.model.extractor_init, tuple(INITS))
    choice("model.stem", config.model.stem, ("patch", "conv"))
    choice("model.extractor_stem", config.model.extractor_stem, ("patch", "conv"))
    choice(
        "init.generator_from",
        config.init.generator_from,
        ("encoder", "pretrain", "warmup"),
    )
    choice("generate.weights", config.generate.weights, ("student", "teacher", "both"))
    choice("generate.empty", config.generate.empty, ("skip", "box"))
    choice("evaluate.size_by", config.evaluate.size_by, ("box", "mask"))
    depth = encoder_config(config, role="extractor").depth
    expect(
        all(1 <= layer <= depth for layer in config.similarity.layers),
        f"similarity.layers = {config.similarity.layers}: the encoder has {depth}.",
    )
    if faults:
        raise ConfigError("\n".join(faults))
