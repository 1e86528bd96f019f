"""BEiT ViT-B/16: intermediate fine-tuning on the 21,841 classes of ImageNet-22K.

No command is published; [P] is the paper's appendix.
"""

_base_ = "_beit.py"

backbone = dict(
    drop_path=0.2,  # [P]
    positions="relative",  # [C] 337
)
optim = dict(
    lr=3e-3,  # [P]
    warmup_epochs=5.0,  # ours, the script's default (97)
    layer_decay=0.65,  # [P]
    clip=3.0,  # [P]
)
train = dict(epochs=90.0)  # [P]
about = dict(dataset="ImageNet-22K", images=14_197_122)
