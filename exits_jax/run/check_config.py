"""What can be known of a configuration before anything is read or compiled."""

from pathlib import Path
from typing import Any

import jax
import ml_collections as mlc

from exits_jax.data.click_noise import ClickNoise
from exits_jax.models.vit import INITS, REMAT, VitConfig
from exits_jax.run.from_config import encoder_config, mesh_of, trains_generator
from exits_jax.run.workdir import ConfigError

CHOICES = {
    "data.points": ("extremenet", "clean"),
    "data.on_bad": ("skip", "error"),
    "data.name": ("custom", "voc", "coco", "lvis"),
    "loss.method": ("exits", "mil_crf"),
    "loss.pooling": ("bilinear", "area"),
    "loss.crf_image": ("student", "clean"),
    "points.walk": ("hops", "converged"),
    "points.background": ("outside", "centre"),
    "model.dtype": ("float32", "bfloat16"),
    "model.attention": ("auto", "together", "by_head"),
    "model.remat": tuple(REMAT),
    "model.extractor_init": tuple(INITS),
    "model.stem": ("patch", "conv"),
    "model.extractor_stem": ("patch", "conv"),
    "decoder.upsample_before": (3, 4),
    "init.generator_from": ("encoder", "pretrain", "warmup"),
    "generate.source": ("generator", "walk", "both"),
    "walk.encoder": ("came", "warmup"),
    "generate.weights": ("student", "teacher", "both"),
    "generate.empty": ("skip", "box"),
    "generate.checkpoint": ("latest", "best"),
    "evaluate.size_by": ("box", "mask"),
}
AT_LEAST_ONE = (
    "batch_size",
    "grad_accum",
    "crop.size",
    "model.patch_size",
    "similarity.sinkhorn_rounds",
    "points.num_hops",
    "train.checkpoint_every",
    "train.log_every",
    "train.keep_checkpoints",
    "train.keep_best",
    "generate.batch_size",
    "generate.part_size",
    "walk.num_hops",
    "walk.ridge_block",
    "dense_crf.grid",
    "dense_crf.rounds",
)
SHARES = (
    "data.max_skip_fraction",
    "crop.flip_rate",
    "similarity.max_empty",
    "points.dropout_rate",
    "prompt.jitter",
    "prompt.dropout",
    "train.teacher_decay",
    "walk.inward_margin",
    "walk.ridge_keep",
    "generate.click_depth",
)
POSITIVE = (
    "walk.neighbours",
    "walk.disc_radius",
    "walk.slope",
    "walk.ridge_shrinkage",
    "dense_crf.position_scale",
    "dense_crf.colour_scale",
    "dense_crf.smooth_scale",
)


def check_config(config: mlc.ConfigDict, *, trains: bool = True) -> None:
    """Checks what can be known before anything is read or compiled.

    Args:
        config: The whole configuration.
        trains: Whether a phase will train, over all devices; masks are made and
            compared by any number of them.

    Raises:
        ConfigError: With every fault, one per line.
    """
    fields = config.to_dict()
    value = lambda name: _at(fields, name)
    faults = []

    def expect(holds: bool, message: str) -> None:
        if not holds:
            faults.append(message)

    for name, known in CHOICES.items():
        listed = ", ".join(map(str, known))
        expect(value(name) in known, f"{name} = {value(name)!r}: known are {listed}.")
    for name in AT_LEAST_ONE:
        expect(value(name) >= 1, f"{name} = {value(name)}: must be at least 1.")
    at_least_zero = ("train.max_bad_steps", "data.read_retries", "walk.ridge_rounds")
    for name in at_least_zero:
        expect(value(name) >= 0, f"{name} = {value(name)}: must be at least 0.")
    for name in POSITIVE:
        expect(value(name) > 0, f"{name} = {value(name)}: must be positive.")
    for name in SHARES:
        in_range = 0 <= value(name) <= 1
        expect(in_range, f"{name} = {value(name)}: must lie in [0, 1].")
    if trains:
        faults += _faults_of_devices(config)
    size, patch = config.crop.size, config.model.patch_size
    expect(
        patch < 1 or size % patch == 0,
        f"crop.size = {size} is not a multiple of {patch} px patches.",
    )
    expect(
        0 <= config.seed < 2**32,
        f"seed = {config.seed}: must be at least 0 and below 2**32.",
    )
    margin = config.points.inward_margin_px
    expect(
        0 <= margin < size / 2 or not trains_generator(config),
        f"points.inward_margin_px = {margin}: "
        f"must be at least 0 and less than half the crop ({size / 2}).",
    )
    expect(
        config.points.bg_threshold <= config.points.fg_threshold,
        "points.bg_threshold must not exceed points.fg_threshold.",
    )
    expect(
        0 <= config.points.blend < 1,
        f"points.blend = {config.points.blend}: must lie in [0, 1).",
    )
    for name in ("generate.threshold", "pretrain.mask_ratio", "prompt.sigma"):
        in_range = 0 < value(name) < 1
        expect(in_range, f"{name} = {value(name)}: must lie in (0, 1).")
    expect(
        config.optimizer.lr_per_sample > 0, "optimizer.lr_per_sample must be positive."
    )
    stall = config.data.stall_s
    expect(stall > 0, f"data.stall_s = {stall}: must be positive, in seconds.")
    for section in ("pretrain", "warmup", "train"):
        lr, steps = config[section].lr, config[section].steps
        expect(lr is None or lr > 0, f"{section}.lr = {lr}: must be positive.")
        expect(
            steps is None or steps > 0, f"{section}.steps = {steps}: must be positive."
        )
        expect(config[section].epochs > 0, f"{section}.epochs must be positive.")
    shows_walk = config.prompt.enabled and config.prompt.walk
    learns = config.loss.method == "exits" and config.generate.source != "walk"
    expect(
        not (shows_walk and learns) or config.labels.stored,
        "prompt.walk shows the generator a walk, which comes with stored labels: set "
        "labels.stored=True, or prompt.walk=False.",
    )
    splits = config.generate.splits
    expect(
        bool(splits) and set(splits) <= {"train", "val"},
        f"generate.splits = {splits!r}: one or both of 'train' and 'val' are expected.",
    )
    for name in ("evaluate.separated_ids", "evaluate.occluded_ids"):
        path = value(name)
        is_there = not path or Path(path).is_file()
        expect(is_there, f"{name}: there is no file {path}.")
    noise = config.data.noise
    try:
        ClickNoise(noise.kind, noise.amount, config.seed)
    except ValueError as error:
        faults.append(f"data.noise: {error}")
    faults += _faults_of_encoders(config) + _faults_of_order(config)
    if faults:
        raise ConfigError("\n".join(faults))


def _faults_of_devices(config: mlc.ConfigDict) -> list[str]:
    """A mesh that does not have all devices, rows that do not divide among them."""
    faults = []
    try:
        mesh_of(config)
    except ConfigError as error:
        faults.append(str(error))
    devices, parts = jax.device_count(), config.grad_accum
    if parts >= 1 and config.batch_size % (devices * parts):
        by_parts = f" times grad_accum = {parts}" if parts > 1 else ""
        faults.append(
            f"batch_size = {config.batch_size} is not a multiple of the {devices} "
            f"devices{by_parts}."
        )
    return faults


def _faults_of_encoders(config: mlc.ConfigDict) -> list[str]:
    """Widths that cannot be divided as they must be, layers that do not exist."""
    encoder = encoder_config(config, role="extractor")
    faults = _faults_of_widths("model", encoder)
    depth, layers = encoder.depth, config.similarity.layers
    learns = trains_generator(config)
    if learns and not all(1 <= layer <= depth for layer in layers):
        faults.append(f"similarity.layers = {layers}: the encoder has {depth}.")
    if config.similarity.select and not config.similarity.select_hops:
        faults.append("similarity.select_hops is empty; name a number of hops to try.")
    if config.pretrain.enabled:
        section = config.pretrain
        decoder = encoder._replace(
            dim=section.decoder_dim, heads=section.decoder_heads, stem="patch"
        )
        faults += _faults_of_widths("pretrain.decoder", decoder)
        if config.model.extractor_stem != "patch":
            faults.append(
                "pretrain.enabled needs model.extractor_stem = 'patch': the "
                "overlapping convolutions of the other stem show hidden pixels."
            )
    return faults


def _faults_of_widths(name: str, encoder: VitConfig) -> list[str]:
    join = "_" if "." in name else "."
    faults = []
    if encoder.dim % encoder.heads:
        faults.append(
            f"{name}{join}dim = {encoder.dim} is not a multiple of the "
            f"{encoder.heads} heads."
        )
    if encoder.dim % 4:
        faults.append(f"{name}{join}dim = {encoder.dim} is not a multiple of 4.")
    return faults


def _faults_of_order(config: mlc.ConfigDict) -> list[str]:
    """What a phase is to start from although no phase makes it."""
    if config.generate.checkpoint == "best" and not config.train.best_metric:
        return [
            "generate.checkpoint = 'best' needs train.best_metric, such as "
            "'loss/total', to know which is the best."
        ]
    source = config.init.generator_from
    if source in ("pretrain", "warmup") and not config[source].enabled:
        return [
            f"init.generator_from = {source!r}, but {source}.enabled is False: set it "
            "to True, or start from 'encoder'."
        ]
    return []


def _at(fields: dict[str, Any], name: str) -> Any:
    for key in name.split("."):
        fields = fields[key]
    return fields
