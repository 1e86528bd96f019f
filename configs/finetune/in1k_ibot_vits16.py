"""iBOT ViT-S/16 from ImageNet-1K weights."""

_base_ = "_ibot.py"

method = dict(mix_group=128)  # [C] 40, images per GPU
backbone = dict(drop_path=0.1)  # [C] README:29
optim = dict(
    warmup_epochs=20.0,  # [C] run.sh:180
    layer_decay=0.75,  # [C] README:30
)
train = dict(epochs=200.0)  # [C] README:28
about = dict(
    expected=(("imagenet_finetune", "top1", 82.3, "arXiv:2111.07832, Table 2"),),
)
