"""SOLOv2 R-50, 36 epochs: Table 1, row "EXITS, ResNet-50" (COCO val; 36.1 mask AP).

Stock mmdet: warm-up of 500 iterations from a third of the learning rate.
"""

_base_ = "mmdet::solov2/solov2_r50_fpn_ms-3x_coco.py"
