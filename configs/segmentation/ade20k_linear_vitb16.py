"""One linear layer on a frozen ViT-B/16 on ADE20K, 512 pixels.

Expected of iBOT after 400 epochs: mIoU 38.3; DINO 34.5, BEiT 27.4 (paper, Table 6).
"""

_base_ = ["_linear.py", "_ade20k.py", "_runtime.py"]

model = dict(decode_head=dict(in_channels=[768] * 4, channels=4 * 768))
optim_wrapper = dict(optimizer=dict(lr=8e-4))  # README (for ViT-B); 7e-4 in the config file
train_dataloader = dict(batch_size=4)
