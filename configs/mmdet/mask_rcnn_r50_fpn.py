"""Mask R-CNN R-50, 12 epochs: in no table, mmdet's usual baseline.

Stock mmdet.
"""

_base_ = "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"
