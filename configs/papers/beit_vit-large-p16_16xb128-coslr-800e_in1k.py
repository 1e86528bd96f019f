"""BEiT ViT-L/16, 800 epochs: the paper's plain ViT."""

_base_ = "beit_vit-base-p16_16xb128-coslr-800e_in1k.py"

backbone = dict(name="beit_large")  # [P]
optim = dict(clip=1.0)  # [P]
about = dict(
    expected=(
        ("imagenet_linear", "top1", 73.5, "arXiv:2106.08254, Table 9"),
        ("imagenet_finetune", "top1", 85.2, "arXiv:2106.08254, Table 1"),
    ),
    notes="the official script instead: --set \"backbone.positions='shared relative'\" "
    "--set backbone.layer_scale=1e-5",
)
