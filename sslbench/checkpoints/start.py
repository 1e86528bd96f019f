"""Reads the weights that a training starts from."""

from __future__ import annotations

from sslbench.backbones.config import BackboneConfig
from sslbench.backbones.resize import fitted_to
from sslbench.checkpoints.load import load_backbone
from sslbench.errors import UserError
from sslbench.method import Start


def read_start(source: str, config: BackboneConfig) -> Start:
    """The weights behind `source`, any that `load_backbone` reads, fitted to a backbone's config.

    Raises UserError where they cannot fit.
    """
    model = load_backbone(source)
    old = getattr(model.backbone, "config", None)
    if not isinstance(old, BackboneConfig):
        raise UserError(f"init.source={source!r} has no weights to start from; name a backbone.")
    try:
        tensors = fitted_to(model.backbone.state_dict(), old, config)
    except UserError as error:
        raise UserError(f"init.source={source!r} does not fit: {error}.") from error
    return Start(tensors, model.head, {}, model.card.method)
