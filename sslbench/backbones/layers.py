"""Layer-wise learning rates: the layer of every parameter of a model that trains one backbone.

The rule is `LayerDecayValueAssigner` of beit/optim_factory.py, which iBOT copied: layer 0 are the
embeddings, layer i + 1 is block i, and the top layer is all else (final norm, a table of relative
positions that all blocks share, heads).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from sslbench.backbones.base import Backbone


class LayerRate(NamedTuple):
    """layer: 0 to depth + 1; scale: factor of the learning rate, 1 in the top layer."""

    layer: int
    scale: float


def layer_rates(module: nn.Module, decay: float) -> dict[str, LayerRate]:
    """Name of every trainable parameter of `module` -> its layer and decay ** (top - layer).

    Raises LookupError as `find_backbone` does.
    """
    prefix, backbone = find_backbone(module)
    top = backbone.depth + 1
    rates = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            inside = name.startswith(prefix)
            layer = backbone.layer_of(name.removeprefix(prefix)) if inside else top
            rates[name] = LayerRate(layer, decay ** (top - layer))
    return rates


def find_backbone(module: nn.Module) -> tuple[str, Backbone]:
    """The prefix of the parameters' names of the backbone inside `module`, and the backbone.

    Of several, the one that trains (a student beside its teacher). Raises LookupError, with the
    reason, where there is none or more than one.
    """
    backbones = [(n, m) for n, m in module.named_modules() if isinstance(m, Backbone)]
    what = "backbone"
    if len(backbones) > 1:
        backbones = [(n, m) for n, m in backbones if any(p.requires_grad for p in m.parameters())]
        what = "backbones that train" if backbones else "backbone that trains"
    if len(backbones) != 1:
        raise LookupError(f"{len(backbones) or 'no'} {what} of sslbench in {type(module).__name__}")
    name, backbone = backbones[0]
    return f"{name}." if name else "", backbone
