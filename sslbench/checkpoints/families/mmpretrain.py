"""mmpretrain (open-mmlab), with mmdet's and mmsegmentation's Swin.

Names: `mmpretrain/models/backbones/{vision_transformer,beit,swin_transformer}.py`. Its Swin merges
patches by `nn.Unfold`, which orders the weights otherwise than the official one.
"""

from torch import Tensor

from sslbench.backbones.config import BackboneConfig
from sslbench.checkpoints.families.family import (
    CLASSIFIER,
    PRETRAINING,
    Family,
    Layout,
    Names,
    Tensors,
)
from sslbench.checkpoints.families.swin import NORM_EPS

VIT_NAMES: Names = {  # of its VisionTransformer and its BEiT
    "patch_embed.": "patch_embed.projection.",
    "norm.": "ln1.",
    "fc_norm.": "ln2.",
    "blocks.{}.norm1.": "layers.{}.ln1.",
    "blocks.{}.norm2.": "layers.{}.ln2.",
    "blocks.{}.mlp.fc1.": "layers.{}.ffn.layers.0.0.",
    "blocks.{}.mlp.fc2.": "layers.{}.ffn.layers.1.",
    "blocks.{}.ls1.gamma": "layers.{}.attn.gamma1.weight",
    "blocks.{}.ls2.gamma": "layers.{}.ffn.gamma2.weight",
    "blocks.{}.": "layers.{}.",
}
SWIN_NAMES: Names = {
    "patch_embed.proj.": "patch_embed.projection.",
    "norm.": "norm3.",
    "layers.{}.blocks.{}.attn.": "stages.{}.blocks.{}.attn.w_msa.",
    "layers.{}.blocks.{}.mlp.fc1.": "stages.{}.blocks.{}.ffn.layers.0.0.",
    "layers.{}.blocks.{}.mlp.fc2.": "stages.{}.blocks.{}.ffn.layers.1.",
    "layers.{}.": "stages.{}.",
}


def unfolded(reduction: Tensor, back: bool = False) -> Tensor:
    """A Swin downsampling's (..., 4 C) weights in the order in which `nn.Unfold` lays out 2x2.

    Official order: the four cells by columns, each with its C channels; mm's: each channel with its
    four cells by rows (mmdet/models/backbones/swin.py, `swin_converter`). back: the inverse.
    """
    cells = (-1, 4) if back else (4, -1)
    x = reduction.unflatten(-1, cells)
    x = x.transpose(-1, -2) if back else x
    x = x[..., [0, 2, 1, 3], :]
    return (x if back else x.transpose(-1, -2)).flatten(-2)


def in_official_order(tensors: Tensors) -> Tensors:
    """A Swin's tensors under our names, with those of `nn.Unfold` in the official order."""
    return {k: unfolded(v, back=True) if ".downsample." in k else v for k, v in tensors.items()}


def for_writing(tensors: Tensors, config: BackboneConfig) -> tuple[Tensors, Names]:
    """A backbone's tensors under our names in the order of `nn.Unfold`, and mmpretrain's names."""
    if config.family != "swin":
        return tensors, VIT_NAMES
    return {k: unfolded(v) if ".downsample." in k else v for k, v in tensors.items()}, SWIN_NAMES


EMBEDDING = r"patch_embed\.projection\.weight"

MMPRETRAIN = Family(
    name="mmpretrain",
    embeddings=(EMBEDDING,),
    layouts=(
        Layout(marks=(EMBEDDING,), unless=r"stages\..*", names=VIT_NAMES),
        Layout(
            marks=(EMBEDDING, r"stages\..*"),
            names=SWIN_NAMES,
            arrange=in_official_order,
            norm_eps=NORM_EPS,
        ),
    ),
    drops={
        r".*(target_generator|neck|cls_head)\..*": PRETRAINING,
        r"(.*\.)?head\.layers\.pre_logits\.(weight|bias)": CLASSIFIER,
    },
    classifier={r"(?:.*\.)?head\.layers\.head\.(weight|bias)": "linear"},
)
