"""SOLOv2 R-50, 12 epochs at one scale: Tables a3 and a4 (VOC; 37.3 mask AP).

Stock mmdet.
"""

_base_ = "mmdet::solov2/solov2_r50_fpn_1x_coco.py"
