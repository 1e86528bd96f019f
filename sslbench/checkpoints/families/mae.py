"""MAE (facebookresearch/mae) and DeiT (facebookresearch/deit), whose ViT has DINO's names.

MAE's checkpoints hold a decoder, whose mask token has the name of the encoder's in other families:
`models_mae.py:40-66`. Arguments: `main_pretrain.py` of MAE, `main.py` of DeiT.
"""

from sslbench.checkpoints.families.family import CLASSIFIER, Family, Layout, Training

DECODER = "the decoder of masked autoencoding"
WITH_DECODER = Layout(
    marks=(r"decoder_.*", "mask_token"),
    # the mask token enters the decoder, in its width
    names={"decoder_mask_token": "mask_token"},
)

MAE = Family(
    name="MAE",
    layouts=(WITH_DECODER,),
    drops={r"(.*\.)?decoder_.*|(.*\.)?decoder\..*": DECODER},
    trainings=(
        Training(
            "mae",
            arguments=("model=mae_vit",),
            names=(r"(.*\.)?decoder_embed\.weight", r"(.*\.)?decoder_pred\.weight"),
        ),
    ),
)

DEIT = Family(
    name="DeiT",
    drops={r"(.*\.)?head_dist\.(weight|bias)": CLASSIFIER},
    refuses={
        r"(.*\.)?(distillation_token|dist_token)": (
            "is a distilled DeiT: its {} has no place in the shared ViT; give the DeiT that was "
            "trained without distillation"
        ),
    },
    trainings=(Training("deit", arguments=("model=deit_",)),),
)
