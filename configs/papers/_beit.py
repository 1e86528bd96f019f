"""Settings that BEiT's models share."""

_base_ = "_in1k.py"

needs = dict(tokenizer="dalle")  # [P]
method = dict(
    name="beit",  # [P]
    views=dict(
        size=224,  # [P]
        token_size=112,  # [C]
        scale=(0.08, 1.0),  # [C]
    ),
    mask=dict(fraction=75 / 196),  # [C] [P]
)
backbone = dict(
    patch_size=16,  # [P]
    image_size=224,  # [P]
    drop_path=0.1,  # [C] [P]
)
optim = dict(
    lr=1.5e-3,  # [C] [P]
    scale_lr=False,  # [C]
    min_lr=1e-5,  # [C]
    warmup_epochs=10.0,  # [C] [P]
    weight_decay=0.05,  # [C] [P]
    weight_decay_end=0.05,  # [C] [P]
    no_decay=("pos_embed", "cls_token"),  # [C]
    clip=3.0,  # [C] [P]
    clip_by="global",  # [C]
)
train = dict(
    batch_size=2048,  # [C] [P] 16 x 128
)
about = dict(paper="arXiv:2106.08254")
