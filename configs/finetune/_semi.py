"""Semi-supervised end to end, from the first layer of the projection head.

[C] numbers are lines of ibot/evaluation/semi_supervised/eval_cls.py, README those of
ibot/evaluation/README.md. run.sh alone takes no projection layer and 300 epochs; the README's
command is taken. The peak rate, 5e-6 x 1024 / 512, is the minimum: flat after warm-up. The paper
names SGD without weight decay for classic fine-tuning; the code has AdamW with 0.05.
"""

_base_ = "_deit.py"

method = dict(
    projection=2048,  # [C] 209, README `--finetune_head_layer 1`
    head_scale=1.0,  # [C] 166
    mix_group=128,  # [C] 44, images per GPU
)
optim = dict(
    lr=2.5e-6,  # [C] README `--lr 5e-6`, 782
    min_lr=1e-5,  # [C] 100
    no_decay=(),  # [C] models/vision_transformer.py
)
train = dict(
    epochs=1000.0,  # [C] README `--epochs 1000`
    batch_size=1024,  # [C] 44, 8 GPUs
)
about = dict(paper="arXiv:2111.07832")
