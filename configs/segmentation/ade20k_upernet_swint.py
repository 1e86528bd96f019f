"""UPerNet with a Swin-T on ADE20K, 512 pixels.

mmseg's `swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py`, with the schedule
and the test of the others here; no figure of iBOT's Swin is published. Supervised: mIoU 44.5
(iBOT's paper, Table 6).
"""

_base_ = ["_upernet.py", "_ade20k.py", "_runtime.py"]

model = dict(
    backbone=dict(
        out_indices=(1, 3, 9, 11),
        out_norm=False,  # each map has its own norm
        drop_path=0.3,
        checkpointing=False,
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768], channels=512),
    auxiliary_head=dict(in_channels=384),
)
undecayed = dict(decay_mult=0.0)
optim_wrapper = dict(
    optimizer=dict(lr=6e-5, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=undecayed, norm=undecayed)),
)
train_dataloader = dict(batch_size=2)
