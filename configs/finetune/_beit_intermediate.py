"""BEiT's intermediate fine-tuning on the 21,841 classes of ImageNet-22K.

"README" is beit/README.md. Its commands run DeepSpeed, which is not told of `--clip_grad`
(beit/utils.py:560-590), so that nothing was clipped there; commands and paper are taken.
"""

_base_ = "_beit.py"

method = dict(
    mixup=0.0,  # [C] 126, not among the README's options
    cutmix=0.0,  # [C] 128, not among the README's options
)
backbone = dict(
    drop_path=0.2,  # [C] README:159, 184 [P]
    positions="relative",  # [C] 337
)
optim = dict(warmup_epochs=5.0)  # [C] README:159, 184
train = dict(epochs=90.0)  # [C] README:159, 184 [P]
about = dict(dataset="ImageNet-22K", images=14_197_122)
