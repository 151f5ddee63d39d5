"""Phase pretrain: a masked autoencoder on the crops, where no encoder is at hand."""

from functools import partial

import ml_collections as mlc
from flax import nnx

from exits_jax.models.autoencoder import AutoencoderConfig, MaskedAutoencoder
from exits_jax.models.params import Params, abstract_graph
from exits_jax.models.vit import VitConfig
from exits_jax.phases.inputs import training_instances
from exits_jax.phases.options import encoder_config, image_stats
from exits_jax.phases.order import begin
from exits_jax.phases.runs import Run, steps_of, train_run
from exits_jax.phases.weights import random_params, restore
from exits_jax.phases.workdir import Workdir
from exits_jax.train.objectives import autoencoder_objective


def run(config: mlc.ConfigDict, workdir: Workdir) -> None:
    """Trains the encoder to paint hidden patches; the extractor starts from it."""
    if not config.pretrain.enabled:
        return
    if not begin(config, workdir, "pretrain"):
        return
    build = _builder(config)
    objects = training_instances(config, workdir)
    section = config.pretrain
    train_run(
        config,
        workdir,
        Run(
            name="pretrain",
            num_steps=steps_of(config, section, len(objects)),
            lr=section.lr,
            ramp_up=section.ramp_up,
            with_teacher=False,
        ),
        params=random_params(config, build, salt=0),
        loss_fn=autoencoder_objective(abstract_graph(build), stats=image_stats(config)),
        objects=objects,
    )
    workdir.finish("pretrain")


def pretrained_encoder(config: mlc.ConfigDict, workdir: Workdir) -> Params:
    """The encoder that `run` trained."""
    return restore(workdir, "pretrain", _builder(config))["encoder"]


def _builder(config: mlc.ConfigDict):
    section = config.pretrain
    autoencoder = AutoencoderConfig(
        mask_ratio=section.mask_ratio,
        dim=section.decoder_dim,
        depth=section.decoder_depth,
        heads=section.decoder_heads,
        normalise_targets=section.normalise_targets,
    )
    encoder = encoder_config(config, role="extractor")
    grid = config.crop.size // config.model.patch_size
    return partial(_autoencoder, encoder, autoencoder, grid)


def _autoencoder(
    encoder: VitConfig, config: AutoencoderConfig, grid: int, rngs: nnx.Rngs
) -> MaskedAutoencoder:
    return MaskedAutoencoder(encoder, config, grid=grid, rngs=rngs)
