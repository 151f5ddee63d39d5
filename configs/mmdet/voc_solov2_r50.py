"""SOLOv2 R-50, 36 epochs: Table 2, "EXITS, ResNet-50" (VOC val2012; 40.4 mask AP).

Also Tables 5, 6, a1, a2 and Figure a1. The paper does not state the schedule for VOC;
this is that of COCO, as 12 epochs are named for Tables a3 and a4 alone. Stock mmdet.
"""

_base_ = "mmdet::solov2/solov2_r50_fpn_ms-3x_coco.py"
