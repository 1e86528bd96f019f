"""Layer-wise learning rates for a backbone of ours inside any model of mmdet or mmseg.

The rule is `ibot/evaluation/object_detection/mmcv_custom/layer_decay_optimizer_constructor.py`
(the same file as in the segmentation code, after BEiT's).
"""

from __future__ import annotations

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from sslbench.backbones.base import Backbone
from sslbench.backbones.layers import find_backbone, layer_rates
from sslbench.errors import UserError, nearest

POSITIONS = ("pos_embed", "cls_token")
DEFAULTS = {"layer_decay": 1.0, "decay_positions": True}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class SSLLayerDecay(DefaultOptimWrapperConstructor):
    """One parameter group per layer of the backbone and kind of weight decay.

    Learning rate: base x the scale of `layer_rates`; all that is no block and no embedding (final
    norm, pyramid, neck, heads) learns at the base rate.
    Weight decay: none for 1-D tensors and biases. decay_positions: whether positions and [CLS]
    are decayed; they are in the papers' dense code, which looks for them under names without the
    prefix "backbone." (T29 in docs/fidelity.md), but not in their classification code.
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        for key in self.paramwise_cfg:
            if key not in DEFAULTS:
                raise UserError(f"unknown paramwise_cfg {key!r}: {nearest(key, DEFAULTS)}.")
        if self.base_lr is None or self.base_wd is None:
            raise UserError(
                f"optimizer={dict(self.optimizer_cfg)} leaves lr or weight_decay out; "
                "SSLLayerDecay scales both, so write them down."
            )
        self.paramwise_cfg = DEFAULTS | self.paramwise_cfg

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, **kwargs: Any) -> None:
        """Appends the groups of `module`, embeddings first; frozen parameters are in none."""
        prefix, backbone = _find_backbone(module)
        rates = layer_rates(module, self.paramwise_cfg["layer_decay"])
        exempt: set[str] = set()
        if not self.paramwise_cfg["decay_positions"]:
            exempt = {f"{prefix}{name}" for name in POSITIONS}
        groups: dict[tuple[int, bool], dict[str, Any]] = {}
        for name, parameter in module.named_parameters():
            if name not in rates:
                continue
            layer, scale = rates[name]
            decayed = parameter.ndim > 1 and not name.endswith(".bias") and name not in exempt
            if (layer, decayed) not in groups:
                groups[layer, decayed] = self._group(layer, backbone.depth, scale, decayed)
            groups[layer, decayed]["params"].append(parameter)
        params.extend(groups[key] for key in sorted(groups))

    def _group(self, layer: int, depth: int, scale: float, decayed: bool) -> dict[str, Any]:
        place = {0: "embeddings", depth + 1: "rest"}.get(layer, f"block {layer - 1}")
        return {
            "params": [],
            "group_name": f"{place}, {'decay' if decayed else 'no decay'}",
            "lr_scale": scale,
            "lr": scale * self.base_lr,
            "weight_decay": self.base_wd if decayed else 0.0,
        }


def _find_backbone(module: nn.Module) -> tuple[str, Backbone]:
    try:
        return find_backbone(module)
    except LookupError as error:
        raise UserError(
            f"SSLLayerDecay finds {error}; set model.backbone.type='SSLBackbone' or use another "
            "optimiser constructor."
        ) from error
