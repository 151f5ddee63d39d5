"""The paper's ablations, one row each, as changes to configs/voc.py.

Run:  python -m exits_jax.main --config=configs/ablations.py:table_a2/alpha_1
"""

import ml_collections as mlc

from configs import voc

ABLATIONS = {
    "table_5/box_only": {"loss.method": "mil_crf"},  # 37.6 AP
    "table_5/annotated_points": {"points.use_pseudo": False},  # 38.0 AP
    "table_5/all_points": {},  # 40.4 AP
    "table_6/no_point_dropout": {"points.dropout_rate": 0.0},  # 39.8 AP
    "table_a1/all_layers": {"similarity.layers": ()},  # 39.5 AP
    "table_a1/layer_8": {"similarity.layers": (8,)},  # 39.6 AP
    "table_a1/layer_10": {"similarity.layers": (10,)},  # 40.4 AP
    "table_a1/layer_12": {"similarity.layers": (12,)},  # 40.4 AP
    "table_a2/alpha_1": {"points.num_hops": 1},  # 34.0 AP
    "table_a2/alpha_2": {"points.num_hops": 2},  # 36.1 AP
    "table_a2/alpha_3": {"points.num_hops": 3},  # 40.4 AP
    "table_a2/alpha_4": {"points.num_hops": 4},  # 39.8 AP
    "table_a2/alpha_infinity": {"points.walk": "converged"},  # 39.6 AP
    "table_a3/no_warmup": {"warmup.enabled": False},  # 36.0 AP, 1x schedule
    "table_a3/warmup_4_epochs": {"warmup.epochs": 4.0},  # 37.0 AP, 1x schedule
    "table_a3/warmup_8_epochs": {"warmup.epochs": 8.0},  # 37.3 AP, 1x schedule
    "table_a4/mae": {"init.extractor": "weights/mae_vit_base.safetensors"},  # 37.3 AP
    "table_a4/imagenet_22k": {"init.extractor": "weights/in21k_vit_base.safetensors"},
    "table_a4/deit": {"init.extractor": "weights/deit_base.safetensors"},  # 35.8 AP
    "table_a4/dino": {"init.extractor": "weights/dino_vit_base.safetensors"},  # 34.7 AP
    "readings/conv_stem": {"model.stem": "conv"},
    "readings/sinkhorn_3": {"similarity.sinkhorn_rounds": 3},
    "readings/area_pooling": {"loss.pooling": "area"},
    "readings/clean_crf_image": {"loss.crf_image": "clean"},
    "readings/no_class_token": {"model.class_token": False},
}


def get_config(name: str = "") -> mlc.ConfigDict:
    if name not in ABLATIONS:
        known = "\n  ".join(sorted(ABLATIONS))
        raise ValueError(
            f"Unknown ablation {name!r}; write --config=configs/ablations.py:NAME. "
            f"Known ablations:\n  {known}"
        )
    config = voc.get_config()
    config.update_from_flattened_dict(ABLATIONS[name])
    config.workdir = f"runs/ablations/{name}"
    return config
