"""SOLOv2 R-101, 36 epochs: Table 2, "EXITS, ResNet-101" (VOC val2012; 41.4 mask AP).

The paper does not state the schedule for VOC; this is that of COCO. Stock mmdet.
"""

_base_ = "mmdet::solov2/solov2_r101_fpn_ms-3x_coco.py"
