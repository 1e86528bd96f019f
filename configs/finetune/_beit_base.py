"""BEiT ViT-B/16, from self-supervised weights."""

_base_ = "_beit.py"

backbone = dict(drop_path=0.1)  # [C] start:68 [P]
optim = dict(
    lr=4e-3,  # [C] start:67
    warmup_epochs=20.0,  # [C] start:68 [P]
    layer_decay=0.65,  # [C] start:68 [P]
)
train = dict(epochs=100.0)  # [C] start:68 [P]
