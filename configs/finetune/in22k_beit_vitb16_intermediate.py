"""BEiT ViT-B/16: intermediate fine-tuning on ImageNet-22K."""

_base_ = "_beit_intermediate.py"

method = dict(mix_group=256)  # [C] README:183, images per GPU; nothing is mixed
optim = dict(
    lr=3e-3,  # [C] README:183 [P]
    layer_decay=0.65,  # [C] README:184 [P]
    clip=3.0,  # [C] README:185 [P]
)
train = dict(batch_size=4096)  # [C] README:183, 16 x 256
