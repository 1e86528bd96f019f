"""BEiT ViT-B/16: intermediate fine-tuning on the 21,841 classes of ImageNet-22K.

"README" is beit/README.md. Its command runs DeepSpeed, which is not told of `--clip_grad`
(beit/utils.py:560-590), so that nothing was clipped there; command and paper are taken.
"""

_base_ = "_beit.py"

method = dict(
    mixup=0.0,  # [C] 126, not among the README's options
    cutmix=0.0,  # [C] 128, not among the README's options
    mix_group=256,  # [C] README:183, images per GPU; nothing is mixed
)
backbone = dict(
    drop_path=0.2,  # [C] README:184 [P]
    positions="relative",  # [C] 337
)
optim = dict(
    lr=3e-3,  # [C] README:183 [P]
    warmup_epochs=5.0,  # [C] README:184
    layer_decay=0.65,  # [C] README:184 [P]
    clip=3.0,  # [C] README:185 [P]
)
train = dict(
    epochs=90.0,  # [C] README:184 [P]
    batch_size=4096,  # [C] README:183, 16 x 256
)
about = dict(dataset="ImageNet-22K", images=14_197_122)
