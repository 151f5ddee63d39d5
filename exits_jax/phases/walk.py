"""The walk of a run: whose attention it follows, over which layers and hops."""

import ml_collections as mlc

from exits_jax.models.params import Params
from exits_jax.phases.options import walk_options
from exits_jax.phases.select_walk import select_walk
from exits_jax.phases.warmup import extractor, extractor_start
from exits_jax.phases.workdir import Workdir
from exits_jax.train.predict import Walk
from exits_jax.train.sharding import host_copy


def walk_encoder(config: mlc.ConfigDict, workdir: Workdir) -> Params:
    """Parameters of the encoder of `walk.encoder`, on the host.

    To load them takes all processes.
    """
    if config.walk.encoder == "warmup":
        return host_copy(extractor(config, workdir))
    return host_copy(extractor_start(config, workdir)["encoder"])


def walk_of_run(config: mlc.ConfigDict, workdir: Workdir, encoder: Params) -> Walk:
    """The walk of section `walk`, with layers and hops chosen if it says so."""
    choice = select_walk(config, workdir, encoder) if config.walk.select else {}
    return walk_options(config, choice)
