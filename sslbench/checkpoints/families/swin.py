"""Swin (microsoft/Swin-Transformer), whose names are ours, as in iBOT's `swin_transformer.py`.

Its attention masks are buffers in the file, which tells it from iBOT's: LayerNorms have PyTorch's
default eps here and in the copies of timm, mmdet and mmpretrain, 1e-6 in iBOT's.
"""

from sslbench.checkpoints.families.family import COMPUTED, Family, Layout

NORM_EPS = 1e-5

SWIN = Family(
    name="Swin",
    layouts=(Layout(marks=(r".*attn_mask",), norm_eps=NORM_EPS),),
    drops={r".*attn_mask": COMPUTED},
)
