"""Cascade Mask R-CNN on COCO, 1x, as iBOT trains it on a ViT.

If sources differ, the values are those of the commands in iBOT's evaluation/README.md, which gave
the published figures. The config files that they override train for 36 epochs, steps 27 and 33.
"""

_base_ = [
    "mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py",
    "mmdet::_base_/datasets/coco_instance.py",
    "mmdet::_base_/schedules/schedule_1x.py",  # steps 8 and 11; the paper says 9 and 11
    "mmdet::_base_/default_runtime.py",
]
custom_imports = dict(imports=["sslbench.benchmarks.dense.register"], allow_failed_imports=False)

syncbn = dict(type="SyncBN", requires_grad=True)


def box_head(centre, side):
    """Return a 4conv1fc head; centre, side: standard deviations of box centres and sides."""
    return dict(
        type="Shared4Conv1FCBBoxHead",
        in_channels=256,
        conv_out_channels=256,
        fc_out_channels=1024,
        roi_feat_size=7,
        num_classes=80,
        norm_cfg=syncbn,
        bbox_coder=dict(
            type="DeltaXYWHBBoxCoder",
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[centre, centre, side, side],
        ),
        reg_class_agnostic=False,
        reg_decoded_bbox=True,  # GIoU compares boxes, not offsets
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
        loss_bbox=dict(type="GIoULoss", loss_weight=10.0),
    )


# Anchors, samplers, IoU thresholds (.5, .6, .7), stage weights (1, .5, .25), the mask head and the
# limits at test time are mmdet's, which the papers use.
model = dict(
    backbone=dict(
        _delete_=True,
        type="SSLBackbone",
        source="runs/ibot",  # replace by any source that `sslbench evaluate --model` accepts
        out_indices=(3, 5, 7, 11),
        out_norm=False,  # as in iBOT's detector
        checkpointing=True,  # iBOT's run.sh
        norm_cfg=syncbn,
    ),
    neck=dict(out_channels=256, num_outs=5),
    # boxes stay exact under bf16
    rpn_head=dict(type="Float32RPNHead"),
    roi_head=dict(
        bbox_roi_extractor=dict(type="Float32RoIExtractor"),
        bbox_head=[box_head(0.1, 0.2), box_head(0.05, 0.1), box_head(0.033, 0.067)],
        mask_roi_extractor=dict(type="Float32RoIExtractor"),
    ),
)

# DETR's policy: resize, or resize small, crop and resize
sides = [(side, 1333) for side in range(480, 801, 32)]
resize = dict(type="RandomChoiceResize", scales=sides, keep_ratio=True)
resize_small = dict(
    type="RandomChoiceResize", scales=[(400, 1333), (500, 1333), (600, 1333)], keep_ratio=True
)
crop = dict(
    type="RandomCrop", crop_type="absolute_range", crop_size=(384, 600), allow_negative_crop=True
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomChoice", transforms=[[resize], [resize_small, crop, resize]]),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(
    _delete_=True,
    type="PrecisionOptimWrapper",  # bf16 if the hardware supports it; iBOT: apex O1
    precision="auto",
    clip_grad=None,
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor="SSLLayerDecay",
)
