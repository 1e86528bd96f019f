"""BEiT-B/16 on ImageNet-22K, 150 epochs: the released model, shared relative bias, LayerScale."""

_base_ = "_beit.py"

backbone = dict(
    name="beit_base",  # [C]
    positions="shared relative",  # [C]
    layer_scale=0.1,  # [C]
)
data = dict(
    source="imagenet-22k",  # [P]
    mean=(0.5, 0.5, 0.5),  # [C]
    std=(0.5, 0.5, 0.5),  # [C]
)
optim = dict(
    warmup_epochs=10_000 / 6_932,  # [C] 10,000 steps
)
train = dict(epochs=150.0)  # [C] [P]
about = dict(
    dataset="IN-22K",
    images=14_197_122,
    expected=(("imagenet_finetune", "top1", 83.7, "arXiv:2111.07832, Table 3"),),
)
