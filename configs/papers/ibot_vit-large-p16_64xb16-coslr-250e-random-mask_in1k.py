"""iBOT ViT-L/16, 250 epochs, random masks; its mask ratios are those of ViT-B/16."""

_base_ = "ibot_vit-large-p16_64xb16-coslr-250e_in1k.py"

method = dict(
    mask=dict(
        kind="random",  # [C]
        ratios=((0.0, 0.0), (0.7, 0.05)),  # ours: as ViT-B/16
    ),
)
train = dict(epochs=250.0)  # ours: as with block masks
about = dict(
    expected=(
        ("imagenet_knn", "top1", 77.7, "bytedance/ibot@da316d8, README.md:195-206"),
        ("imagenet_linear", "top1", 81.3, "bytedance/ibot@da316d8, README.md:195-206"),
        ("imagenet_finetune", "top1", 85.0, "bytedance/ibot@da316d8, README.md:195-206"),
    ),
)
