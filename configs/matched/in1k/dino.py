"""DINO ViT-S/16 at equal compute: 98 epochs of 2 x 196 + 10 x 36 tokens per image."""

_base_ = "../../papers/dino_vit-small-p16_16xb64-coslr-800e_in1k.py"

train = dict(epochs=98.0)
about = dict(expected=(), notes="")
