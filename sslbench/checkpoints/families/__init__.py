"""The projects whose checkpoints are read, one file each: what it recognises, renames and drops.

A file may carry marks of several families, e.g. iBOT's mask token beside names of timm. Therefore
every layout that fits is applied, in the order of `FAMILIES`, and what any family leaves out is
left out of every file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from sslbench.checkpoints.families.beit import BEIT
from sslbench.checkpoints.families.dino import DINO
from sslbench.checkpoints.families.dinov2 import DINOV2
from sslbench.checkpoints.families.family import Family, Layout, T, to_ours
from sslbench.checkpoints.families.ibot import IBOT
from sslbench.checkpoints.families.lightly import LIGHTLY
from sslbench.checkpoints.families.mae import DEIT, MAE
from sslbench.checkpoints.families.mmpretrain import MMPRETRAIN
from sslbench.checkpoints.families.swin import SWIN
from sslbench.checkpoints.families.timm import TIMM
from sslbench.checkpoints.families.transformers import TRANSFORMERS
from sslbench.errors import UserError

# the names that `convert` writes, which are those of our modules
OURS = Family(
    name="sslbench",
    embeddings=(r"patch_embed\.weight",),
    heads=(r"(layers|norms|patch_norms)\.\d+\..+",),
)
# iBOT's mask token is renamed before MAE's is looked for; MAE's decoder may have a classifier's
# names, and mmpretrain's necks a decoder's, so the earlier reason counts
FAMILIES = (
    OURS, BEIT, MMPRETRAIN, SWIN, DINOV2, LIGHTLY, TRANSFORMERS, IBOT, DINO, MAE, DEIT, TIMM,
)  # fmt: skip
EMBEDDING = "|".join(pattern for family in FAMILIES for pattern in family.embeddings)
HEAD = "|".join(pattern for family in FAMILIES for pattern in family.heads)
TRAININGS = tuple(training for family in FAMILIES for training in family.trainings)
SWITCHES = tuple(family.imagenet_switch for family in FAMILIES if family.imagenet_switch)
_DROPS = {re.compile(pattern): why for family in FAMILIES for pattern, why in family.drops.items()}


def to_our_names(backbone: Mapping[str, T]) -> tuple[dict[str, T], tuple[Layout, ...]]:
    """A backbone's tensors, or what stands for them, under our names; the layouts that fitted."""
    renamed, fitted = dict(backbone), list[Layout]()
    for layout in (layout for family in FAMILIES for layout in family.layouts):
        if layout.fits(renamed):
            renamed = to_ours(renamed, layout.names)
            fitted.append(layout)
    return renamed, tuple(fitted)


def reason_to_drop(name: str) -> str | None:
    """Why a tensor of this name is left out; None if it is not."""
    return next((why for pattern, why in _DROPS.items() if pattern.fullmatch(name)), None)


def check_readable(names: Iterable[str], source: str) -> None:
    """Raises UserError for a network that a family `refuses`."""
    refused = {p: sentence for family in FAMILIES for p, sentence in family.refuses.items()}
    for name in names:
        for pattern, sentence in refused.items():
            if re.fullmatch(pattern, name):
                raise UserError(f"{source} {sentence.format(name)}.")
