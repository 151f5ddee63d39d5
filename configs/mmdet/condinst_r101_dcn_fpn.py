"""CondInst R-101-DCN, 90,000 iterations: Table 1, rows "BoxInst", "BoxTeacher", "SIM".

EXITS reports no number with it. mmdet has no such file: to its CondInst R-50 come the
depth and deformable convolutions (v2) in the stages 3 to 5.
"""

_base_ = "mmdet::condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py"

model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(checkpoint="torchvision://resnet101"),
        dcn=dict(type="DCNv2", deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, True, True, True),
    )
)
