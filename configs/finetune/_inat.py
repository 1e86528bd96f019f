"""iNaturalist: fewer epochs, less erasing.

run.sh gives 7.5e-6 before scaling, for ViT-B/16. DeiT's authors name 7.5e-5 after scaling
(facebookresearch/deit, issues 105 and 141), which the README's 5e-5 for ViT-S/16 becomes on
iNaturalist 2018; DINO's give 5e-5 before scaling (facebookresearch/dino, issue 171). What the
script says is taken; the other is `--set optim.lr=2.5e-5`.
"""

_base_ = "_transfer.py"

method = dict(views=dict(erasing=0.1))  # [C] run.sh:314, 334
train = dict(epochs=360.0)  # [C] run.sh:313, 333
