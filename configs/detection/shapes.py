"""Cascade Mask R-CNN on the embedded scenes: the papers' detector in a size for two CPU cores."""

_base_ = ["_coco_cascade.py"]

width, images, steps = 32, 4, 100
strides = [2, 4, 8, 16, 32]  # of a ViT with patches of 8 pixels


def box_head(centre, side):
    """Two fully connected layers: convolutions on every region cost most of a step."""
    return dict(
        type="Shared2FCBBoxHead",
        in_channels=width,
        fc_out_channels=128,
        roi_feat_size=7,
        num_classes=10,
        bbox_coder=dict(
            type="DeltaXYWHBBoxCoder",
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[centre, centre, side, side],
        ),
        reg_class_agnostic=True,
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
        loss_bbox=dict(type="SmoothL1Loss", beta=1.0, loss_weight=1.0),
    )


def stage(iou):
    """What one stage of the cascade learns from: 32 regions an image."""
    return dict(
        assigner=dict(
            type="MaxIoUAssigner",
            pos_iou_thr=iou,
            neg_iou_thr=iou,
            min_pos_iou=iou,
            match_low_quality=False,
            ignore_iof_thr=-1,
        ),
        sampler=dict(
            type="RandomSampler",
            num=32,
            pos_fraction=0.25,
            neg_pos_ub=-1,
            add_gt_as_proposals=True,
        ),
        mask_size=28,
        pos_weight=-1,
        debug=False,
    )


model = dict(
    backbone=dict(out_indices=(0, 1, 2, 3), checkpointing=False, norm_cfg=dict(type="BN")),
    neck=dict(in_channels=[128] * 4, out_channels=width),
    rpn_head=dict(in_channels=width, feat_channels=width, anchor_generator=dict(strides=strides)),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width, featmap_strides=strides[:4]),
        bbox_head=[box_head(0.1, 0.2), box_head(0.05, 0.1), box_head(0.033, 0.067)],
        mask_roi_extractor=dict(out_channels=width, featmap_strides=strides[:4]),
        mask_head=dict(num_convs=1, in_channels=width, conv_out_channels=width, num_classes=10),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=[stage(0.5), stage(0.6), stage(0.7)],
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100), rcnn=dict(max_per_img=50)),
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale_factor=1.0, keep_ratio=True),  # says the scale factor, which is 1
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
loading = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(batch_size=images, dataset=dict(pipeline=train_pipeline), **loading)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline), **loading)
test_dataloader = val_dataloader

optim_wrapper = dict(
    precision="fp32", optimizer=dict(lr=2e-3), paramwise_cfg=dict(layer_decay=0.75)
)
train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=steps)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=10),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=10, end=steps, T_max=steps - 10),
]
auto_scale_lr = dict(enable=False, base_batch_size=images)
