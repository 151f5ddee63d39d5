"""The quickstart at toy size: every phase within a minute or two, for the tests.

Run:  python -m exits_jax.main --config=configs/tiny.py
"""

import ml_collections as mlc

from . import quickstart


def get_config() -> mlc.ConfigDict:
    config = quickstart.get_config()
    config.workdir = "runs/tiny"
    config.data.scenes.num_train = 24
    config.data.scenes.num_val = 8
    config.batch_size = 8
    config.crop.size = 64
    config.model.dim = 32
    config.model.depth = 3
    config.model.position_grid = 8
    config.model.stem = "conv"  # every part of the system is at work
    config.init.generator_from = "encoder"
    config.decoder.features = 8
    config.similarity.layers = (2,)
    config.points.inward_margin_px = 3.0  # 24 of 512
    config.loss.crf_rounds = 10
    config.loss.crf_ramp_steps = 2
    config.pretrain.steps = 6
    config.pretrain.decoder_dim = 16
    config.warmup.steps = 6
    config.train.start_steps = 6
    config.train.steps = 6
    config.train.checkpoint_every = 4
    config.train.log_every = 2
    config.generate.batch_size = 8
    config.generate.flip = False
    config.generate.crf = False
    config.evaluate.num_pictures = 4
    return config
