"""BEiT ViT-L/16 at 384 pixels, from the weights of `in1k_beit_vitl16`.

The paper says 10 more epochs and no more; the rest is that of the README's second stage.
"""

_base_ = "_beit_second_large.py"

method = dict(
    views=dict(
        size=384,  # [P]
        test_crop_ratio=1.0,  # [C] datasets.py:160
    ),
)
backbone = dict(
    image_size=384,  # [P]
    positions="absolute",  # [C] beit/README.md:190 [P]
)
optim = dict(warmup_epochs=0.0)  # ours
train = dict(epochs=10.0)  # [P]
about = dict(expected=(("imagenet_finetune", "top1", 86.3, "arXiv:2106.08254, Table 1"),))
