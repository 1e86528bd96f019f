"""One linear layer on a frozen ViT-Ti/16 on ADE20K, 512 pixels; no figure is published."""

_base_ = ["ade20k_linear_vits16.py"]

model = dict(decode_head=dict(in_channels=[192] * 4, channels=4 * 192))
