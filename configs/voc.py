"""PASCAL VOC 2012 (augmented train set), Table 2: 40.4 mask AP with SOLOv2-R50.

Run:  python -m exits_jax.main --config=configs/voc.py
"""

import ml_collections as mlc

from . import base


def get_config() -> mlc.ConfigDict:
    config = base.get_config()
    config.workdir = "runs/voc"
    config.data.name = "voc"
    config.data.voc.devkit = "data/voc/VOCdevkit/VOC2012"
    config.data.voc.sbd = "data/voc/benchmark_RELEASE/dataset"
    config.data.points = "clean"  # ours: VOC's masks are pixels, not polygons
    config.init.encoder = "weights/mae_vit_base.safetensors"
    config.points.inward_margin_px = 12.0  # delta, Supp. B
    config.loss.point = 0.05  # lambda_point, Supp. B
    config.warmup.epochs = 8.0  # Sec. 4.1
    config.train.epochs = 80.0  # Sec. 4.1
    config.train.ramp_up = 1 / 80  # baseline: one epoch
    return config
