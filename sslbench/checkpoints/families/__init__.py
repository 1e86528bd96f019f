"""The projects whose checkpoints are read, one file each: what is recognised, renamed and dropped.

A file may carry marks of several families, e.g. iBOT's mask token beside names of timm. Therefore
every layout that fits is applied, in the order of `FAMILIES`, and what any family leaves out is
left out of every file. Another project is one more file with a `Family`, named in `FAMILIES`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from sslbench.checkpoints.families.beit import BEIT
from sslbench.checkpoints.families.dino import DINO
from sslbench.checkpoints.families.dinov2 import DINOV2
from sslbench.checkpoints.families.family import (
    CLASSIFIER,
    Family,
    Layout,
    Names,
    Translation,
)
from sslbench.checkpoints.families.ibot import IBOT
from sslbench.checkpoints.families.lightly import LIGHTLY
from sslbench.checkpoints.families.mae import DEIT, MAE
from sslbench.checkpoints.families.mmpretrain import MMPRETRAIN
from sslbench.checkpoints.families.swin import SWIN
from sslbench.checkpoints.families.timm import TIMM
from sslbench.checkpoints.families.transformers import TRANSFORMERS
from sslbench.errors import UserError

T = TypeVar("T")  # a tensor, or what stands for it

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
_DROPS = {
    re.compile(pattern): why
    for family in FAMILIES
    for pattern, why in {**family.drops, **dict.fromkeys(family.classifier, CLASSIFIER)}.items()
}
_CLASSIFIER = {
    re.compile(pattern): layer
    for family in FAMILIES
    for pattern, layer in family.classifier.items()
}


def to_our_names(backbone: Mapping[str, T]) -> tuple[dict[str, T], tuple[Layout, ...]]:
    """A backbone's tensors under our names, and the layouts that they were in.

    backbone: name below its root -> tensor, or what stands for it.
    """
    renamed, layouts = dict(backbone), list[Layout]()
    for layout in (layout for family in FAMILIES for layout in family.layouts):
        if _fits(layout, renamed):
            renamed = to_ours(renamed, layout.names)
            layouts.append(layout)
    return renamed, tuple(layouts)


def reason_to_drop(name: str) -> str | None:
    """Why a tensor of this name is left out; None if it is not."""
    return next((why for pattern, why in _DROPS.items() if pattern.fullmatch(name)), None)


def classifier_part(name: str) -> str | None:
    """The name in `tuned.Classifier` of a fine-tuned classifier's tensor; None if it has none."""
    for pattern, layer in _CLASSIFIER.items():
        if match := pattern.fullmatch(name):
            return f"{layer}.{match.group(1)}"
    return None


def check_readable(names: Iterable[str], source: str) -> None:
    """Raises UserError for a network that a family `refuses`."""
    refused = {p: sentence for family in FAMILIES for p, sentence in family.refuses.items()}
    for name in names:
        for pattern, sentence in refused.items():
            if re.fullmatch(pattern, name):
                raise UserError(f"{source} {sentence.format(name)}.")


def translated(keys: Mapping[str, str], source: str) -> Translation | None:
    """A dict under official names; None where its own are official or those of a layout.

    keys: name without training wrappers -> key in the file.
    """
    for family in FAMILIES:
        pattern = rf".*({'|'.join(family.embeddings)})"
        if family.translate and has_match(pattern, keys):
            return family.translate(keys, source)
    return None


def _fits(layout: Layout, names: Iterable[str]) -> bool:
    """Whether a backbone with these names, below its own root, is in a layout."""
    names = list(names)
    excluded = bool(layout.unless) and has_match(layout.unless, names)
    return not excluded and all(has_match(mark, names) for mark in layout.marks)


def has_match(pattern: str, names: Iterable[str]) -> bool:
    """Whether a name matches as a whole."""
    compiled = re.compile(pattern)
    return any(compiled.fullmatch(name) for name in names)


def to_theirs(tensors: Mapping[str, T], names: Names) -> dict[str, T]:
    """`tensors`, under our names, under those of a family."""
    return _renamed(tensors, names.items())


def to_ours(tensors: Mapping[str, T], names: Names) -> dict[str, T]:
    """`tensors`, under a family's names, under ours."""
    return _renamed(tensors, ((theirs, ours) for ours, theirs in names.items()))


def _renamed(tensors: Mapping[str, T], prefixes: Iterable[tuple[str, str]]) -> dict[str, T]:
    rules = [
        (re.compile(re.escape(old).replace(r"\{\}", r"(\d+)")), _template(new))
        for old, new in prefixes
    ]
    return {_rename(key, rules): tensor for key, tensor in tensors.items()}


def _template(prefix: str) -> str:
    """ "layers.{}.x" as a replacement with numbered groups."""
    parts = prefix.split("{}")
    return parts[0] + "".join(rf"\{n}{part}" for n, part in enumerate(parts[1:], start=1))


def _rename(key: str, rules: Iterable[tuple[re.Pattern[str], str]]) -> str:
    for pattern, template in rules:
        if match := pattern.match(key):
            return match.expand(template) + key[match.end() :]
    return key
