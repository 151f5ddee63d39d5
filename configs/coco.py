"""COCO 2017, Table 1: 36.1 mask AP (val) with SOLOv2-R50; Table 4: 79.4 mIoU.

Run:  python -m exits_jax.main --config=configs/coco.py
"""

import ml_collections as mlc

from . import base


def get_config() -> mlc.ConfigDict:
    config = base.get_config()
    config.workdir = "runs/coco"
    config.data.name = "coco"
    config.data.train = "data/coco/annotations/instances_train2017.json"
    config.data.images = "data/coco/train2017"
    config.data.val = "data/coco/annotations/instances_val2017.json"
    config.data.val_images = "data/coco/val2017"
    config.init.encoder = "weights/mae_vit_base.safetensors"
    config.points.inward_margin_px = 24.0  # delta, Supp. B
    config.loss.point = 0.5  # lambda_point, Supp. B
    config.warmup.epochs = 1.0  # Sec. 4.1
    config.train.epochs = 10.0  # baseline; the paper does not say
    return config
