"""BEiT ViT-L/16: intermediate fine-tuning on ImageNet-22K."""

_base_ = "_beit_intermediate.py"

method = dict(mix_group=64)  # [C] README:158, images per GPU; nothing is mixed
optim = dict(
    lr=2e-3,  # [C] README:158 [P]
    layer_decay=0.75,  # [C] README:159 [P]
    clip=1.0,  # [C] README:160 [P]
)
train = dict(batch_size=2048)  # [C] README:158, 16 x 64 x 2
