"""BEiT ViT-B/16, 800 epochs: the paper's plain ViT with absolute positions, without LayerScale."""

_base_ = "_beit.py"

backbone = dict(
    name="beit_base",  # [C] without a bias for keys
    positions="absolute",  # [P]
    layer_scale=0.0,  # [P]
)
train = dict(epochs=800.0)  # [C] [P]
about = dict(
    expected=(
        ("imagenet_linear", "top1", 56.7, "arXiv:2106.08254, Table 9"),
        ("imagenet_finetune", "top1", 83.2, "arXiv:2106.08254, Table 1"),
    ),
    notes="the official script instead: --set \"backbone.positions='shared relative'\" "
    "--set backbone.layer_scale=0.1",
)
