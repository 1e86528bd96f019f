"""The networks and nothing else: one `Backbone` interface over ViT, BEiT's ViT, Swin and pixels.

No file here opens a file: reading weights is the business of `checkpoints`.
"""
