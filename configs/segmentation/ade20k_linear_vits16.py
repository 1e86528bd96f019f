"""One linear layer on a frozen ViT-S/16 on ADE20K, 512 pixels."""

_base_ = ["_linear.py", "_ade20k.py", "_runtime.py"]

model = dict(decode_head=dict(in_channels=[384] * 4, channels=4 * 384))
optim_wrapper = dict(optimizer=dict(lr=8e-4))  # README (for ViT-B); 3e-5 in the config file
train_dataloader = dict(batch_size=4)
