"""What can be known of a configuration before anything is read or compiled."""

from pathlib import Path

import jax
import ml_collections as mlc

from exits_jax.cli.fields import leaves
from exits_jax.data.click_noise import ClickNoise
from exits_jax.models.vit import VitConfig
from exits_jax.ops.attention_choice import device, lack
from exits_jax.run.fields import faults_of_values
from exits_jax.run.from_config import encoder_config, mesh_of, trains_generator
from exits_jax.run.workdir import ConfigError


def check_config(config: mlc.ConfigDict, *, trains: bool = True) -> None:
    """Checks what can be known before anything is read or compiled.

    Args:
        config: The whole configuration.
        trains: Whether a phase will train, over all devices; masks are made and
            compared by any number of them.

    Raises:
        ConfigError: With every fault, one per line.
    """
    fields = dict(leaves(config))
    faults = faults_of_values(fields)

    def expect(holds: bool, message: str) -> None:
        if not holds:
            faults.append(message)

    if trains:
        faults += _faults_of_devices(config)
    size, patch = config.crop.size, config.model.patch_size
    expect(
        patch < 1 or size % patch == 0,
        f"crop.size = {size} is not a multiple of {patch} px patches.",
    )
    margin = config.points.inward_margin_px
    expect(
        margin < size / 2 or not trains_generator(config),
        f"points.inward_margin_px = {margin}: must be less than half the crop "
        f"({size / 2}).",
    )
    expect(
        config.points.bg_threshold <= config.points.fg_threshold,
        "points.bg_threshold must not exceed points.fg_threshold.",
    )
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
        path = fields[name]
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
    faults = _faults_of_widths("model", encoder) + _faults_of_attention(encoder)
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


def _faults_of_attention(encoder: VitConfig) -> list[str]:
    """A named way of attending that the devices at hand, or the heads, do not allow."""
    name = encoder.attention
    head_dim = encoder.dim // max(encoder.heads, 1)
    reason = lack(name, device(), dtype=encoder.dtype, head_dim=head_dim)
    return [f"model.attention = {name!r}: {name} {reason}."] if reason else []


def _faults_of_widths(name: str, encoder: VitConfig) -> list[str]:
    join = "_" if "." in name else "."
    faults = []
    if encoder.heads >= 1 and encoder.dim % encoder.heads:
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
