"""BEiT's script, which iBOT's authors took over: absolute rates, layer decay, cosine per step.

[C] numbers are lines of ibot/evaluation/classification_layer_decay/run_class_finetuning.py.
"""

_base_ = "_papers.py"

method = dict(
    head_scale=0.001,  # [C] 148
    mix_group=128,  # [C] 40, images per GPU
)
optim = dict(
    scale_lr=False,  # [C] 540
    min_lr=1e-6,  # [C] 98
    warmup_lr=0.0,  # [C] utils.py:380; --warmup_lr (96) is never used
    schedule="step",  # [C] 587
    no_decay=("pos_embed", "cls_token"),  # [C] modeling_finetune.py:343
)
