"""DINO (facebookresearch/dino), and the names of the ViT that iBOT, DeiT, MAE and DINOv2 share.

Names: `vision_transformer.py:134-291`, which follow timm's. Arguments and epochs: `main_dino.py`.
Its full checkpoints hold the student and the teacher, each with a backbone and a head.
"""

from sslbench.checkpoints.families.family import Family, Layout, Training

VIT = Layout(
    marks=(r"patch_embed\.proj\.weight",),
    unless=r"layers\..*",  # Swin's patch embedding has a norm beside its projection, as ours
    names={"patch_embed.": "patch_embed.proj."},
)

DINO = Family(
    name="DINO",
    embeddings=(r"patch_embed\.proj\.weight",),
    layouts=(VIT,),
    heads=(r"mlp\.\d+\..+", r"last_layer\..+"),
    trainings=(Training("dino", arguments=("use_bn_in_head",), multi_crop=True),),
)
