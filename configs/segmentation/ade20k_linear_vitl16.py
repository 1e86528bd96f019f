"""One linear layer on a frozen ViT-L/16 on ADE20K, 512 pixels."""

_base_ = ["_linear.py", "_ade20k.py", "_runtime.py"]

# iBOT's config file has 512 channels per map, which do not fit a ViT-L
model = dict(
    backbone=dict(out_indices=(7, 11, 15, 23)),
    decode_head=dict(in_channels=[1024] * 4, channels=4 * 1024),
)
optim_wrapper = dict(optimizer=dict(lr=8e-4))  # README (for ViT-B); 2e-5 in the config file
train_dataloader = dict(batch_size=4)
