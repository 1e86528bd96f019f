"""BEiT's second stage: weights that were already fine-tuned with labels, without mixing images."""

_base_ = "_beit.py"

method = dict(
    mixup=0.0,  # [C] 126
    cutmix=0.0,  # [C] 128
)
optim = dict(
    lr=2e-5,  # [C] start:32
    warmup_epochs=5.0,  # [C] start:33
    weight_decay=1e-8,  # [C] start:34
    weight_decay_end=1e-8,  # [C] start:34
)
train = dict(
    epochs=30.0,  # [C] start:33
    batch_size=512,  # [C] start:38
)
