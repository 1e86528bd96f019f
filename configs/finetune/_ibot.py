"""iBOT's fine-tuning: [CLS] behind the pretrained final norm.

[C] numbers are lines of ibot/evaluation/classification_layer_decay/run_class_finetuning.py; README:
of ibot/evaluation/README.md. The paper tries four rates, which is what is taken; the README's
commands use the script's default, 4e-3.
"""

_base_ = "_layer_decay.py"

rates = (8e-4, 9e-4, 1e-3, 2e-3)  # [P]
method = dict(
    token="cls",  # [C] run.sh:187
    norm="pretrained",  # [C] modeling_finetune.py:307
    views=dict(test_interpolation="bilinear"),  # [C] 288
)
optim = dict(lr=4e-3)  # [C] 92; the rates above take its place
about = dict(paper="arXiv:2111.07832")
