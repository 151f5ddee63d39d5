"""CondInst R-50, 90,000 iterations: Table 1, "CondInst" and "BoxTeacher, ResNet-50".

EXITS reports no number with it. Stock mmdet; `fill` takes masks in the place of its
polygons.
"""

_base_ = "mmdet::condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py"
