"""Phase pretrain: a masked autoencoder on the crops, where no encoder is at hand."""

import ml_collections as mlc

from exits_jax.models.params import abstract_graph
from exits_jax.run.extractor import autoencoder_builder
from exits_jax.run.from_config import image_stats
from exits_jax.run.phase_order import begin, uses
from exits_jax.run.prepared import training_instances
from exits_jax.run.starting_weights import random_params
from exits_jax.run.training import Run, steps_of, train_run
from exits_jax.run.workdir import Workdir
from exits_jax.train.objectives import autoencoder_objective


def run(config: mlc.ConfigDict, workdir: Workdir) -> None:
    """Trains the encoder to paint hidden patches; the extractor starts from it."""
    if not uses(config, "pretrain"):
        return
    if not begin(config, workdir, "pretrain"):
        return
    build = autoencoder_builder(config)
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
