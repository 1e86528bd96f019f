"""Settings that DINO's ViTs share."""

_base_ = "_in1k.py"

method = dict(
    name="dino",  # [P]
    out_dim=65536,  # [P]
    hidden_dim=2048,  # [C]
    bottleneck_dim=256,  # [C]
    student_temp=0.1,  # [C]
    warmup_teacher_temp=0.04,  # [P]
    teacher_temp=0.07,  # [P]
    momentum=0.996,  # [C]
    centre_momentum=0.9,  # [C]
    views=dict(
        global_size=224,  # [C]
        local_size=96,  # [C]
        local_crops=10,  # [P] [S]
    ),
)
backbone = dict(
    patch_size=16,  # [P]
    image_size=224,  # [C]
    drop_path=0.1,  # [C]
)
optim = dict(
    lr=5e-4,  # [P] x batch / 256
    scale_lr=True,  # [C]
    warmup_epochs=10.0,  # [C]
    weight_decay=0.04,  # [C]
    weight_decay_end=0.4,  # [C]
    clip_by="tensor",  # [C]
)
train = dict(
    batch_size=1024,  # [P]
)
about = dict(paper="arXiv:2104.14294")
