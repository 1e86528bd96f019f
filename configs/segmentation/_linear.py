"""The "linear" task layer on a frozen backbone, as in iBOT.

Four maps at stride p pass through the final norm and are concatenated; one 1x1 convolution gives
the classes.
"""

model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 512),
    ),
    backbone=dict(
        type="SSLBackbone",
        source="runs/ibot",  # replace by any source that `sslbench evaluate --model` accepts
        out_indices=(3, 5, 7, 11),
        out_norm=True,  # paper: 37.8 -> 38.3 mIoU for iBOT, 33.7 -> 34.5 for DINO
        pyramid=False,
        frozen=True,
    ),
    decode_head=dict(
        type="FCNHead",
        in_index=[0, 1, 2, 3],
        input_transform="resize_concat",
        num_convs=0,
        kernel_size=1,  # of a layer that FCNHead creates but does not use if num_convs is 0
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=150,
        norm_cfg=None,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg={},
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
)
