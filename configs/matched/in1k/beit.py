"""BEiT ViT-S/16 at equal compute: 376 epochs of 196 tokens per image."""

_base_ = "../../papers/beit_vit-small-p16_16xb128-coslr-800e_in1k.py"

backbone = dict(name="vit_small")  # the other methods'
optim = dict(lr=7.5e-4)  # the paper's, scaled to the batch
train = dict(epochs=376.0, batch_size=1024)
about = dict(notes="")
