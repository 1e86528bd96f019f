"""UPerNet with a ViT-Ti/16 on ADE20K, 512 pixels: ViT-S/16's recipe; no paper trains one."""

_base_ = ["ade20k_upernet_vits16.py"]

model = dict(
    decode_head=dict(in_channels=[192] * 4, channels=192), auxiliary_head=dict(in_channels=192)
)
