"""A tokenizer of 14x14 codes for 224-px recipes, from your own images (ours, not a paper's)."""

method = dict(
    name="dvae",
    num_codes=8192,
    downsample=8,
    hidden_dim=256,
    views=dict(size=112, scale=(0.08, 1.0)),
)
optim = dict(
    lr=1e-3,
    scale_lr=False,
    min_lr=1e-5,
    warmup_epochs=0.5,
    weight_decay=0.0,
    weight_decay_end=0.0,
    clip=3.0,
    clip_by="global",
)
train = dict(epochs=10.0, batch_size=256)
