"""BEiT's fine-tuning: the mean patch behind a new norm.

[C] numbers are lines of beit/run_class_finetuning.py, "start" those of
beit/get_started_for_image_classification.md. The paper lists repeated augmentation for ViT-B; the
code has none (a plain sampler), which is what is taken.
"""

_base_ = "_layer_decay.py"

method = dict(
    token="mean",  # [C] modeling_finetune.py:348-350
    norm="new",  # [C] modeling_finetune.py:286
    views=dict(test_interpolation="bicubic"),  # [C] datasets.py:163
)
about = dict(paper="arXiv:2106.08254")
