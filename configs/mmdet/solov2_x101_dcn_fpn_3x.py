"""SOLOv2 X-101-DCN, 36 epochs: Table 1, "EXITS, ResNeXt-101-DCN" (COCO; 40.5 mask AP).

The backbone is the 64x4d one. Differs from stock mmdet in the warm-up, which is that of
Mask Auto-Labeler: 1000 iterations from a thirtieth of the rate, for 500 from a third.
"""

_base_ = "mmdet::solov2/solov2_x101-dcn_fpn_ms-3x_coco.py"

param_scheduler = [
    dict(type="LinearLR", start_factor=1 / 30, by_epoch=False, begin=0, end=1000),
    dict(type="MultiStepLR", begin=0, end=36, milestones=[27, 33], gamma=0.1),
]
