"""iBOT ViT-B/16 from ImageNet-1K weights."""

_base_ = "_ibot.py"

method = dict(mix_group=128)  # [C] 40, images per GPU
backbone = dict(drop_path=0.2)  # [C] README:36; run.sh alone leaves 0.1
optim = dict(
    warmup_epochs=20.0,  # [C] run.sh:180
    layer_decay=0.65,  # [C] README:37
)
train = dict(epochs=100.0)  # [C] README:35
about = dict(
    expected=(("imagenet_finetune", "top1", 84.0, "arXiv:2111.07832, Table 2"),),
)
