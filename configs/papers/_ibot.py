"""Settings that iBOT's models share, from the commands in its README."""

_base_ = "_in1k.py"

method = dict(
    name="ibot",  # [P]
    out_dim=8192,  # [C] [P]
    patch_out_dim=8192,  # [C] [P]
    shared_head=True,  # [C] [P]
    shared_head_teacher=True,  # [C] [P]
    hidden_dim=2048,  # [C]
    bottleneck_dim=256,  # [C]
    norm_last_layer=False,  # [C]
    freeze_last_layer=1.0,  # [C]
    student_temp=0.1,  # [C]
    warmup_teacher_temp=0.04,  # [C]
    teacher_temp=0.07,  # [C]
    teacher_patch_temp=0.07,  # [C] [P]
    warmup_teacher_temp_epochs=30.0,  # [C]
    momentum=0.996,  # [C]
    centre_momentum=0.9,  # [C] [P]
    cls_weight=1.0,  # [C] [P]
    patch_weight=1.0,  # [C] [P]
    views=dict(
        global_size=224,  # [C]
        local_size=96,  # [C]
        local_crops=10,  # [C] [P]
        global_scale=(0.25, 1.0),  # [C]
        local_scale=(0.05, 0.25),  # [C]
    ),
    mask=dict(
        kind="block",  # [C] [P]
        ratios=((0.0, 0.0), (0.3, 0.2)),  # [C] [P]
        start_epoch=0.0,  # [C]
    ),
)
backbone = dict(
    patch_size=16,  # [P]
    image_size=224,  # [C]
    drop_path=0.1,  # [C]
)
optim = dict(
    lr=5e-4,  # [C] [P] x batch / 256
    scale_lr=True,  # [C]
    min_lr=1e-6,  # [C]
    warmup_epochs=10.0,  # [C] [P]
    weight_decay=0.04,  # [C]
    weight_decay_end=0.4,  # [C]
    clip=3.0,  # [C]
    clip_by="tensor",  # [C]
)
train = dict(
    batch_size=1024,  # [C] [P]
)
about = dict(paper="arXiv:2111.07832")
