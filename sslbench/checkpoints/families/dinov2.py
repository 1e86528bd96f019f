"""DINOv2 (facebookresearch/dinov2): the shared ViT with LayerScale and registers under our names.

Names: `dinov2/models/vision_transformer.py`; those of its training have chunks and wrappers too.
DINOv3's positions are rotations, which no backbone of ours has.
"""

import re

from sslbench.checkpoints.families.family import PRETRAINING, Family, Training

# blocks are trained in chunks; the second number counts through all of them (lines 159-171)
CHUNK = re.compile(r"((?:^|\.)blocks\.)\d+\.(\d+\.)")

DINOV2 = Family(
    name="DINOv2",
    embeddings=(r"embeddings\.patch_embeddings\.weight",),  # DINOv3's in transformers
    drops={r"(.*\.)?((dino|ibot)_head|\w+_loss)\..*": PRETRAINING},
    refuses={
        r"(.*\.)?(storage_tokens|rope_embed\.periods|embeddings\.patch_embeddings\.weight)": (
            "is a DINOv3, as its {} shows: its positions are rotations, which are not read; give a "
            "DINOv2 or another ViT"
        ),
    },
    trainings=(Training("dinov2", names=(r"(.*\.)?dino_head\..*",)),),
)
