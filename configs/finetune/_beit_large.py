"""BEiT ViT-L/16, from self-supervised weights."""

_base_ = "_beit.py"

method = dict(mix_group=64)  # [C] start:60, images per GPU and micro-batch
backbone = dict(drop_path=0.2)  # [C] start:61 [P]
optim = dict(
    lr=1e-3,  # [C] start:60
    warmup_epochs=5.0,  # [C] start:61 [P]
    layer_decay=0.75,  # [C] start:61 [P]
)
train = dict(epochs=50.0)  # [C] start:61 [P]
