"""Mask2Former R-50, 368,750 iterations: in no table, the smaller sister of Swin-S.

Stock mmdet.
"""

_base_ = "mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py"
