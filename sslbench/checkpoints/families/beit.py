"""BEiT and BEiT v2 (microsoft/unilm): queries and values with biases, positions as tables of bias.

Names: `beit/modeling_pretrain.py:33-128`, `beit/modeling_finetune.py:62-330`; ours are the same.
Arguments: `beit/run_beit_pretraining.py`, `beit2/run_beitv2_pretraining.py`. Inputs: those with
relative positions saw [-1, 1] (`beit/README.md`), unless the switch of `beit/datasets.py:30-33` is
in the file.
"""

from sslbench.checkpoints.families.family import (
    COMPUTED,
    PRETRAINING,
    Family,
    Layout,
    Training,
)

RELATIVE = Layout(marks=(r".*\.q_bias", r".*position_bias_table"), half_range=True)

BEIT = Family(
    name="BEiT",
    layouts=(RELATIVE,),
    drops={
        r".*relative_position_index": COMPUTED,
        r".*(lm_head|cls_pt_layers)\..*": PRETRAINING,
    },
    trainings=(
        Training("beit2", arguments=("tokenizer_weight",), names=(r"(.*\.)?cls_pt_l\w+\..*",)),
        Training(
            "beit",
            arguments=("discrete_vae_weight_path",),
            names=(r"(.*\.)?lm_head\.weight", r"(.*\.)?mask_token"),
        ),
    ),
    imagenet_switch="imagenet_default_mean_and_std",
)
