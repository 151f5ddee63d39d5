"""The whole of stage 1 on scenes drawn by code, from random weights, on a CPU.

Run:  python -m exits_jax.main --config=configs/quickstart.py
"""

import ml_collections as mlc

from . import base


def get_config() -> mlc.ConfigDict:
    config = base.get_config()
    config.workdir = "runs/quickstart"
    config.data.scenes.num_train = 1600
    config.data.scenes.num_val = 220
    config.data.points = "clean"
    config.data.min_area_px = 0.0
    config.data.num_threads = 2
    config.batch_size = 32
    config.crop.size = 96

    config.model.dim = 64
    config.model.depth = 5
    config.model.heads = 2
    config.model.patch_size = 8
    config.model.position_grid = 12
    config.model.class_token = False
    config.model.extractor_init = "xavier"
    config.model.extractor_query_is_key = True
    config.model.dtype = "float32"
    config.decoder.features = 32
    config.decoder.size_dependent = False
    config.decoder.fixed_scale = 2.0

    config.init.generator_from = "warmup"  # so no start_steps from random weights

    config.similarity.layers = (3,)
    config.similarity.select = True
    config.similarity.select_hops = (2, 3)
    config.similarity.max_empty = 0.05
    config.points.inward_margin_px = 4.5  # 24 of 512
    config.points.num_hops = 2
    config.points.dropout_rate = 0.5
    config.loss.point = 1.0
    config.loss.crf_ramp_steps = 300
    config.loss.baseline_mil_ramp_steps = 0  # it starts from the warm-up's weights

    config.optimizer.betas = (0.9, 0.95)
    config.pretrain.enabled = True
    config.pretrain.steps = 300
    config.pretrain.decoder_dim = 48
    config.pretrain.decoder_heads = 2
    config.warmup.steps = 200
    config.warmup.lr = 5e-4
    config.train.steps = 600
    config.train.lr = 1e-3
    config.train.teacher_decay = 0.99
    config.train.checkpoint_every = 150
    config.train.log_every = 10
    config.generate.batch_size = 64
    config.generate.threshold = 0.5
    config.generate.flip = True
    config.generate.crf = True
    return config
