"""Which frozen features a linear probe reads, by the size of the architecture.

iBOT's scripts read the [CLS] of the last four blocks of ViT-S and Swin, and the last block's [CLS]
and mean patch of larger ViTs (`ibot/run.sh:50-60`); so do DINO's (help of `dino/eval_linear.py`).
The mean patch of the last block is for BEiT, whose [CLS] no loss touches (`avgpool_patchtokens` 1
in the help of `ibot/evaluation/eval_linear.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sslbench import plugins
from sslbench.benchmark import FeatureSpec

if TYPE_CHECKING:
    from sslbench.checkpoints.load import LoadedModel

Tap = tuple[int, str]  # last blocks read, pool of `FeatureSpec`
LARGE = ("ViT-B", "ViT-L", "ViT-H", "ViT-g")  # beginnings of `ModelCard.arch`
MEAN: dict[str, Tap] = {"mean": (1, "mean"), "cls+mean": (1, "cls+mean")}


@dataclass(frozen=True)
class Taps:
    """What is read for each pooling of a model: of ViTs from ViT-B on, and of all others.

    norm: every tapped block goes through the final norm or none does.
    """

    small: dict[str, Tap] = field(default_factory=lambda: {"cls": (4, "cls"), **MEAN})
    large: dict[str, Tap] = field(default_factory=lambda: {"cls": (1, "cls+mean"), **MEAN})
    norm: bool = True

    def spec(self, model: LoadedModel, pool: str) -> FeatureSpec:
        """The features of `model`, in the order that its authors' classifiers expect."""
        from sslbench.method import Method

        taps = self.large if model.card.arch.startswith(LARGE) else self.small
        known = model.card.method in plugins.available(plugins.METHODS)
        method = plugins.load(plugins.METHODS, model.card.method) if known else Method
        layers, read = taps.get(pool, (1, pool))
        return FeatureSpec(layers, read, self.norm, method.order)
