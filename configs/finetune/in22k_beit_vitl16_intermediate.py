"""BEiT ViT-L/16: intermediate fine-tuning on the 21,841 classes of ImageNet-22K.

"README" is beit/README.md. Its command runs DeepSpeed, which is not told of `--clip_grad`
(beit/utils.py:560-590), so that nothing was clipped there; command and paper are taken.
"""

_base_ = "_beit.py"

method = dict(
    mixup=0.0,  # [C] 126, not among the README's options
    cutmix=0.0,  # [C] 128, not among the README's options
    mix_group=64,  # [C] README:158, images per GPU; nothing is mixed
)
backbone = dict(
    drop_path=0.2,  # [C] README:159 [P]
    positions="relative",  # [C] 337
)
optim = dict(
    lr=2e-3,  # [C] README:158 [P]
    warmup_epochs=5.0,  # [C] README:159
    layer_decay=0.75,  # [C] README:159 [P]
    clip=1.0,  # [C] README:160 [P]
)
train = dict(
    epochs=90.0,  # [C] README:159 [P]
    batch_size=2048,  # [C] README:158, 16 x 64 x 2
)
about = dict(dataset="ImageNet-22K", images=14_197_122)
