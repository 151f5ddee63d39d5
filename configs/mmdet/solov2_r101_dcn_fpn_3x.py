"""SOLOv2 R-101-DCN, 36 epochs: Table 1, "EXITS, ResNet-101-DCN" (COCO; 39.8 mask AP).

Differs from stock mmdet in the warm-up, which is that of Mask Auto-Labeler: 2000
iterations from a tenth of the learning rate, for 500 from a third.
"""

_base_ = "mmdet::solov2/solov2_r101-dcn_fpn_ms-3x_coco.py"

param_scheduler = [
    dict(type="LinearLR", start_factor=1 / 10, by_epoch=False, begin=0, end=2000),
    dict(type="MultiStepLR", begin=0, end=36, milestones=[27, 33], gamma=0.1),
]
