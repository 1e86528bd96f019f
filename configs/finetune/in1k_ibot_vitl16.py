"""iBOT ViT-L/16 from ImageNet-1K weights."""

_base_ = "_ibot.py"

method = dict(mix_group=64)  # [C] README:45, images per GPU and micro-batch
backbone = dict(drop_path=0.4)  # [C] README:43
optim = dict(
    warmup_epochs=5.0,  # [C] README:47
    layer_decay=0.75,  # [C] README:44
)
train = dict(epochs=50.0)  # [C] README:42
about = dict(
    expected=(("imagenet_finetune", "top1", 84.8, "arXiv:2111.07832, Table 2"),),
)
