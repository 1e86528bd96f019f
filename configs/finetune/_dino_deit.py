"""DINO as its authors fine-tuned it: DeiT's recipe with a smaller initial classifier.

[I] is facebookresearch/dino, issue 31: DeiT's defaults, 0.0005 per 512 images, 1024 images on 16
GPUs, and a classifier multiplied by a small factor.
"""

_base_ = "_deit.py"

method = dict(
    head_scale=0.001,  # [I] smaller; the factor is that of BEiT's and iBOT's scripts
    mix_group=64,  # [I] 1024 images on 16 GPUs
)
about = dict(paper="arXiv:2104.14294")
