"""Any COCO-format JSON and image folder, by flags: clicks used for all they are worth.

Run:  exits-jax run --config=custom --workdir=runs/mine \
          --config.data.train=FILE.json --config.data.images=FOLDER \
          --config.init.encoder=WEIGHTS.safetensors

`custom:cpu` is the same for a ViT-Tiny on crops of 224 px: what a CPU can
train within an hour.

The method is the paper's with more made of the clicks (docs/quality.md): labels are
made once per object by a walk, the generator sees the clicks, masks are those of both
and hold their clicks. `custom:paper` and `custom:paper_cpu` are the paper's own, on the
same data. --config.generate.source=walk trains nothing.
"""

import ml_collections as mlc

from . import base


def get_config(scale: str = "full") -> mlc.ConfigDict:
    known = ("full", "cpu", "paper", "paper_cpu")
    if scale not in known:
        raise ValueError(f"Unknown scale {scale!r}. Known: {', '.join(known)}")
    config = base.get_config()
    config.workdir = "runs/custom"
    if scale.endswith("cpu"):
        _for_cpu(config)
    if not scale.startswith("paper"):
        _with_clicks(config)
    if scale == "cpu":
        config.loss.crf_ramp_steps = 100
        config.warmup.steps = 100
        config.train.steps = 1000
        config.train.lr = 3e-4
    return config


def _with_clicks(config: mlc.ConfigDict) -> None:
    config.data.min_area_px = 256.0  # labels are as good on small objects
    config.crop.reduced_decoding = True  # photographs may have 24 megapixels
    config.labels.stored = True
    config.prompt.enabled = True
    config.prompt.walk = False  # a generator that sees it learns its mistakes, too
    config.prompt.jitter = 0.02
    config.prompt.dropout = 0.1
    config.loss.mask = 4.0
    config.loss.mask_exponent = 0.7
    config.generate.source = "both"
    config.generate.weights = "teacher"
    config.generate.flip = True
    config.generate.threshold = 0.7
    config.generate.crf = True
    config.generate.click_depth = 0.15
    config.generate.layers = True


def _for_cpu(config: mlc.ConfigDict) -> None:
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
