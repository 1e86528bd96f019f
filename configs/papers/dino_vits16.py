"""DINO ViT-S/16, ImageNet-1K, 800 epochs: the released model's settings (recipes.md section 3)."""

# The released args.txt, which differs from the code's defaults: no clipping, free last layer.
method = dict(
    name="dino",
    out_dim=65536,
    norm_last_layer=False,
    freeze_last_layer=1.0,
    warmup_teacher_temp=0.04,
    teacher_temp=0.07,
    warmup_teacher_temp_epochs=30.0,
    momentum=0.996,
    views=dict(local_crops=10, global_scale=(0.25, 1.0), local_scale=(0.05, 0.25)),
)
backbone = dict(name="vit_small", patch_size=16, image_size=224, drop_path=0.1)
optim = dict(
    lr=5e-4,  # x batch / 256
    min_lr=1e-5,
    warmup_epochs=10.0,
    weight_decay=0.04,
    weight_decay_end=0.4,
    clip=None,
)
train = dict(epochs=800.0, batch_size=1024)
