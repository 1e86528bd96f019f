"""One linear layer on a frozen Swin-T on ADE20K, 512 pixels; no figure is published.

The maps of the four stages are resized to that of the first; only the last one has a norm.
"""

_base_ = ["ade20k_linear_vits16.py"]

model = dict(
    backbone=dict(out_indices=(1, 3, 9, 11)),
    decode_head=dict(in_channels=[96, 192, 384, 768], channels=96 + 192 + 384 + 768),
)
