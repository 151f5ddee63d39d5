"""Any COCO-format JSON and image folder, by flags.

Run:  exits-jax run --config=custom --workdir=runs/mine \
          --config.data.train=FILE.json --config.data.images=FOLDER

`custom:cpu` is the same for a ViT-Tiny on crops of 224 px: what a CPU can
train within an hour. Either takes --config.init.encoder=WEIGHTS.safetensors.
"""

import ml_collections as mlc

from . import base


def get_config(scale: str = "full") -> mlc.ConfigDict:
    scales = {"full": lambda config: config, "cpu": _for_cpu}
    if scale not in scales:
        raise ValueError(f"Unknown scale {scale!r}. Known: {', '.join(scales)}")
    config = base.get_config()
    config.workdir = "runs/custom"
    return scales[scale](config)


def _for_cpu(config: mlc.ConfigDict) -> mlc.ConfigDict:
    config.batch_size = 16
    config.crop.size = 224
    config.data.cache_mb = 1024
    config.model.size = "tiny"
    config.model.dtype = "float32"
    config.decoder.features = 64
    config.decoder.size_dependent = False
    config.decoder.fixed_scale = 2.0
    config.init.generator_from = "warmup"
    # Layers, hops and thresholds: chosen for a supervised ViT-Tiny, whose late layers
    # are weak and whose attention is flat, on objects of a training split.
    config.similarity.layers = (3, 4, 5, 6, 7, 8)
    config.points.num_hops = 2
    config.points.fg_threshold = 3e-4
    config.points.bg_threshold = 5e-5
    config.points.inward_margin_px = 10.5  # 24 of 512
    config.points.dropout_rate = 0.5
    config.loss.point = 1.0
    config.loss.crf_ramp_steps = 200
    config.loss.baseline_mil_ramp_steps = 0
    config.optimizer.betas = (0.9, 0.95)
    config.warmup.steps = 150
    config.warmup.lr = 1e-4
    config.train.steps = 500
    config.train.lr = 2e-4
    config.train.teacher_decay = 0.99
    config.train.checkpoint_every = 100
    config.train.log_every = 10
    config.generate.threshold = 0.5
    return config
