"""iBOT ViT-S/16, ImageNet-1K, 800 epochs: the official README's settings (recipes.md section 4)."""

method = dict(
    name="ibot",
    out_dim=8192,
    shared_head=True,
    norm_last_layer=False,
    freeze_last_layer=1.0,
    warmup_teacher_temp=0.04,
    teacher_temp=0.07,
    teacher_patch_temp=0.07,
    warmup_teacher_temp_epochs=30.0,
    momentum=0.996,
    views=dict(local_crops=10, global_scale=(0.25, 1.0), local_scale=(0.05, 0.25)),
    mask=dict(kind="block", ratios=((0.0, 0.0), (0.3, 0.2)), start_epoch=0),
)
backbone = dict(name="vit_small", patch_size=16, image_size=224, drop_path=0.1)
optim = dict(
    lr=5e-4,  # x batch / 256
    min_lr=1e-6,
    warmup_epochs=10.0,
    weight_decay=0.04,
    weight_decay_end=0.4,
    clip=3.0,
    clip_by="tensor",
)
train = dict(epochs=800.0, batch_size=1024)
