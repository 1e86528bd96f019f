"""iBOT's transfer: DeiT's recipe by ibot/evaluation/eval_cls.py, whose lines [C] numbers are.

`optim.lr` is per 256 images, half of the script's. Its network has no `no_weight_decay`, so that
positions and [CLS] are decayed. The paper cites ViT's recipe (SGD); README and code use DeiT's.
"""

_base_ = "_deit.py"

method = dict(
    head_scale=1.0,  # [C] 162, 626
    mix_group=96,  # [C] run.sh:234, images per GPU
)
backbone = dict(drop_path=0.1)  # [C] 64
optim = dict(
    lr=3.75e-6,  # [C] run.sh:235, 690
    no_decay=(),  # [C] models/vision_transformer.py
)
train = dict(
    epochs=1000.0,  # [C] run.sh:236
    batch_size=768,  # [C] run.sh:234, 8 GPUs
    repeats=3,  # [C] 125
)
about = dict(paper="arXiv:2111.07832")
