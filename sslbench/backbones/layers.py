"""Layer-wise learning rates: how deep in a backbone a parameter is, and what it learns at.

    scale = decay ** (depth + 1 - layer),   layer: see `Backbone.layer_of`

Embeddings are layer 0, block i is layer i + 1, all else learns at the full rate: the final norm,
heads, a pyramid, a bias table that all blocks share (beit/optim_factory.py:25-47, the same rule in
iBOT's classification, detection and segmentation code).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sslbench.backbones.base import Backbone


@dataclass(frozen=True)
class Layers:
    """The backbone of a model; prefix: of its parameters' names in the model."""

    prefix: str
    backbone: Backbone

    @classmethod
    def of(cls, model: nn.Module) -> Layers | None:
        """Those of the first backbone in `model`, of a trained one where there is one; or None."""
        found = [(n, m) for n, m in model.named_modules() if isinstance(m, Backbone)]
        trained = [(n, m) for n, m in found if any(p.requires_grad for p in m.parameters())]
        for name, backbone in (*trained, *found):
            return cls(f"{name}." if name else "", backbone)
        return None

    def own(self, parameter: str) -> str | None:
        """The name that a parameter of the model has in the backbone; None for one outside."""
        inside = parameter.startswith(self.prefix)
        return parameter.removeprefix(self.prefix) if inside else None

    def layer(self, parameter: str) -> int:
        """From 0 for the embeddings to depth + 1, by the parameter's name in the model."""
        own = self.own(parameter)
        return self.backbone.depth + 1 if own is None else self.backbone.layer_of(own)

    def scale(self, layer: int, decay: float) -> float:
        """What a layer's learning rate is multiplied by."""
        return decay ** (self.backbone.depth + 1 - layer)
