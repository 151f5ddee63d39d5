"""The similarity extractor before and after the phases that train it (Sec. 3.2.1)."""

from functools import partial

import ml_collections as mlc
from flax import nnx

from exits_jax.models.autoencoder import AutoencoderConfig, MaskedAutoencoder
from exits_jax.models.params import Build, Params
from exits_jax.models.vit import VitConfig
from exits_jax.run.from_config import encoder_config, generator_builder
from exits_jax.run.starting_weights import (
    encoder_file,
    file_encoder,
    load_params,
    random_params,
    restore,
    with_encoder,
)
from exits_jax.run.workdir import Workdir


def extractor_start(config: mlc.ConfigDict, workdir: Workdir) -> Params:
    """Parameters of the extractor (and its decoder) before the warm-up."""
    stem = config.model.extractor_stem
    build = generator_builder(config, role="extractor")
    params = random_params(config, build, salt=1)
    if config.pretrain.enabled:
        encoder = pretrained_encoder(config, workdir)
        return with_encoder(params, encoder, stem=stem, name="the pre-trained encoder")
    path = encoder_file(config, role="extractor")
    if path:
        encoder, _ = file_encoder(config, role="extractor")
        return with_encoder(params, encoder, stem=stem, name=path)
    return params


def extractor(config: mlc.ConfigDict, workdir: Workdir) -> Params:
    """The frozen encoder that phase `warmup` made."""
    if not config.warmup.enabled:
        return extractor_start(config, workdir)["encoder"]
    return load_params(config, workdir, "warmup", role="extractor")["encoder"]


def pretrained_encoder(config: mlc.ConfigDict, workdir: Workdir) -> Params:
    """The encoder that phase `pretrain` trained."""
    return restore(workdir, "pretrain", autoencoder_builder(config))["encoder"]


def autoencoder_config(config: mlc.ConfigDict) -> AutoencoderConfig:
    """What phase `pretrain` adds to the encoder."""
    section = config.pretrain
    return AutoencoderConfig(
        mask_ratio=section.mask_ratio,
        dim=section.decoder_dim,
        depth=section.decoder_depth,
        heads=section.decoder_heads,
        normalise_targets=section.normalise_targets,
    )


def autoencoder_builder(config: mlc.ConfigDict) -> Build:
    """Makes the masked autoencoder of phase `pretrain`."""
    encoder = encoder_config(config, role="extractor")
    grid = config.crop.size // config.model.patch_size
    return partial(_autoencoder, encoder, autoencoder_config(config), grid)


def _autoencoder(
    encoder: VitConfig, config: AutoencoderConfig, grid: int, rngs: nnx.Rngs
) -> MaskedAutoencoder:
    return MaskedAutoencoder(encoder, config, grid=grid, rngs=rngs)
