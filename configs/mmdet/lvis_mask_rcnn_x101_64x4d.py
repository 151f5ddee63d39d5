"""Mask R-CNN X-101-64x4d, 12 epochs: Table 3, "EXITS, RNeXt101-64" (LVIS v1; 24.9 AP).

Stock mmdet: images of rare classes are seen more often, and LVIS's own metric.
"""

_base_ = "mmdet::lvis/mask-rcnn_x101-64x4d_fpn_sample1e-3_ms-1x_lvis-v1.py"
