"""Mask2Former Swin-S, 368,750 iterations: Table 1, "EXITS, Swin-Small" (COCO; 44.2 AP).

Stock mmdet; also the stage 2 of Table a5.
"""

_base_ = "mmdet::mask2former/mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco.py"
