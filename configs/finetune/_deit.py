"""DeiT's recipe: rates per 512 images, repeated augmentation, cosine per epoch, no layer decay.

[C] numbers are lines of deit/main.py; `optim.lr` is per 256 images, half of the script's.
"""

_base_ = "_papers.py"

method = dict(
    token="cls",  # [C] timm's VisionTransformer
    norm="pretrained",  # [C] timm's VisionTransformer
    head_scale=1.0,  # [C] timm's VisionTransformer
    mix_group=64,  # [C] 34, images per GPU
    views=dict(test_interpolation="bicubic"),  # [C] datasets.py:103
)
optim = dict(
    lr=2.5e-4,  # [C] 71, 350
    scale_lr=True,  # [C] 350
    min_lr=1e-5,  # [C] 81
    warmup_epochs=5.0,  # [C] 86
    warmup_lr=1e-6,  # [C] 79
    schedule="epoch",  # [C] 432
    layer_decay=1.0,  # [C] 352, one rate for all
    no_decay=("pos_embed", "cls_token"),  # [C] timm's no_weight_decay
)
train = dict(
    epochs=300.0,  # [C] 35
    repeats=3,  # [C] 107, samplers.py
)
about = dict(paper="arXiv:2012.12877")
