"""LVIS v1.0, Table 3: 24.1 mask AP with Mask R-CNN X101-32x4d.

Run:  python -m exits_jax.main --config=configs/lvis.py
"""

import ml_collections as mlc

from . import base


def get_config() -> mlc.ConfigDict:
    config = base.get_config()
    config.workdir = "runs/lvis"
    config.data.name = "lvis"
    config.data.train = "data/lvis/lvis_v1_train.json"
    config.data.val = "data/lvis/lvis_v1_val.json"
    config.data.images = "data/coco"  # LVIS mixes train2017/ and val2017/
    config.init.encoder = "weights/mae_vit_base.safetensors"
    config.points.inward_margin_px = 16.0  # delta, Supp. B
    config.loss.point = 0.5  # lambda_point, Supp. B
    config.warmup.epochs = 10.0  # Sec. 4.1
    config.train.epochs = 10.0  # baseline; the paper does not say
    return config
