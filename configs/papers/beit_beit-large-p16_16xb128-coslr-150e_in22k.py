"""BEiT-L/16 on ImageNet-22K, 150 epochs: the released model."""

_base_ = "beit_beit-base-p16_16xb128-coslr-150e_in22k.py"

backbone = dict(
    name="beit_large",  # [C]
    layer_scale=1e-5,  # [C]
)
optim = dict(clip=1.0)  # [P]
about = dict(
    expected=(("imagenet_finetune", "top1", 86.0, "arXiv:2111.07832, Table 3"),),
)
