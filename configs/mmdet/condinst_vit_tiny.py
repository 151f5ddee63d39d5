"""CondInst on a ViT-Tiny at 320 px: a pilot for a CPU, with --iterations=1000 or so.

In none of the paper's tables. It starts from --init=WEIGHTS.safetensors, which are made
as exits_jax/stage2/vit.py says.
"""

_base_ = "mmdet::condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py"
custom_imports = dict(imports=["exits_jax.stage2.vit"])
convs = dict(in_channels=96, feat_channels=96)
model = dict(
    backbone=dict(_delete_=True, type="PlainViT", frozen_blocks=6),
    neck=dict(in_channels=[192] * 3, out_channels=96, start_level=0),
    bbox_head=dict(stacked_convs=2, **convs),
    mask_head=dict(mask_feature_head=dict(num_stacked_convs=2, **convs)),
)
load, pack = dict(type="LoadImageFromFile"), dict(type="PackDetInputs")
masks = dict(type="LoadAnnotations", with_bbox=True, with_mask=True)
resize = dict(type="Resize", scale=(320, 320), keep_ratio=True)
train = [load, masks, resize, dict(type="RandomFlip", prob=0.5), pack]
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train))
val_dataloader = dict(dataset=dict(pipeline=[load, resize, pack]))
test_dataloader = val_dataloader
optim_wrapper = dict(
    _delete_=True,
    optimizer=dict(type="AdamW", lr=3e-4, weight_decay=0.05),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.3))),
    clip_grad=dict(max_norm=10.0),
)
