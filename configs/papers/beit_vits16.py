"""BEiT on ViT-S/16, ImageNet-1K, 800 epochs (recipes.md section 2); needs a tokenizer."""

# The paper trains ViT-B and ViT-L; its optimiser, masks and views do not depend on the size.
method = dict(
    name="beit",
    views=dict(size=224, token_size=112, scale=(0.08, 1.0)),
    mask=dict(fraction=75 / 196),
)
backbone = dict(name="vit_small", patch_size=16, image_size=224, drop_path=0.1)
optim = dict(
    lr=1.5e-3,
    scale_lr=False,  # absolute
    min_lr=1e-5,
    warmup_epochs=10.0,
    weight_decay=0.05,
    weight_decay_end=0.05,
    no_decay=("pos_embed", "cls_token"),
    clip=3.0,
    clip_by="global",
)
train = dict(epochs=800.0, batch_size=2048)
