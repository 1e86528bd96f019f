"""A tokenizer of 14x14 codes for 224-px recipes, from your own images (ours, not a paper's)."""

_base_ = "_in1k.py"

method = dict(
    name="dvae",  # ours
    num_codes=8192,  # [P] as DALL-E's
    downsample=8,  # [P] as DALL-E's
    hidden_dim=256,  # ours
    views=dict(
        size=112,  # [C]
        scale=(0.08, 1.0),  # [C]
    ),
)
optim = dict(
    lr=1e-3,  # ours
    scale_lr=False,  # ours
    min_lr=1e-5,  # ours
    warmup_epochs=0.5,  # ours
    weight_decay=0.0,  # ours
    weight_decay_end=0.0,  # ours
    clip=3.0,  # ours
    clip_by="global",  # ours
)
train = dict(
    epochs=10.0,  # ours
    batch_size=256,  # ours
)
