"""The fine-tuned classifier in a file that others made: built on request, checked like weights.

What it reads is told by its layers: with a norm of its own (`fc_norm`), the mean patch
(beit/modeling_finetune.py:286,348-350; `global_pool` of mae/models_vit.py); without, [CLS] behind
the final norm (DeiT and timm's VisionTransformer; iBOT; transformers' ViT), of Swin the mean of all
tokens, and with twice the width [CLS] and mean patch (transformers' DINOv2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from sslbench.backbones.base import Backbone
from sslbench.backbones.config import UNNORMED, BackboneConfig
from sslbench.checkpoints.adopt import unsound
from sslbench.checkpoints.classifier import FINE_TUNED
from sslbench.checkpoints.loaded import LoadedModel, shortened
from sslbench.errors import UserError

NAMES = {f"{layer}.{kind}" for layer in ("norm", "linear") for kind in ("weight", "bias")}
READS = ("cls", "mean", UNNORMED, "cls+mean")
# pixels from which the images of those with a norm are not cropped: `build_transform` of
# beit/datasets.py and of mae/util/datasets.py
UNCROPPED = 384


class Classifier(nn.Module):
    """Pooled token (B, D) -> logits (B, K): a norm, where there is one, and a linear layer."""

    def __init__(self, width: int, classes: int, eps: float | None) -> None:
        super().__init__()
        self.norm = None if eps is None else nn.LayerNorm(width, eps=eps)
        self.linear = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x if self.norm is None else self.norm(x))


def with_tuned_classifier(model: LoadedModel) -> LoadedModel:
    """`model` with the classifier in its file, and its images as that was evaluated.

    Raises UserError where the file has none that can be read.
    """
    source, tuned = model.card.source, model.tuned
    if tuned is None:
        raise UserError(
            f"{source} has no classifier; give a fine-tuned run or model, or the file released for "
            "linear evaluation."
        )
    tensors, config = tuned.tensors, getattr(model.backbone, "config", None)
    if tuned.reads and tuned.reads not in READS:
        raise UserError(
            f"the classifier in {source} reads {tuned.reads!r}, as the settings beside it say, "
            f"which is not read; known are {', '.join(READS)}."
        )
    assert isinstance(config, BackboneConfig), "files of others hold backbones of ours"
    _check(tensors, source)
    weight, normed = tensors["linear.weight"], "norm.weight" in tensors
    classifier = Classifier(weight.shape[1], weight.shape[0], config.norm_eps if normed else None)
    try:
        classifier.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"the classifier in {source} is damaged: {reason}; get it anew.") from error
    uncropped = 1.0 if normed and config.image_size >= UNCROPPED else None
    return replace(
        model,
        classifier=classifier.requires_grad_(False).eval(),
        reads=tuned.reads or _reads(tensors, model.backbone, config),
        classifier_name=FINE_TUNED,
        image_size=config.image_size,
        interpolation=tuned.interpolation or model.interpolation,
        crop_ratio=tuned.crop_ratio or uncropped,
    )


def _check(tensors: Mapping[str, Tensor], source: str) -> None:
    """Raises UserError for further layers, missing ones, and tensors that cannot be weights."""
    if unknown := [name for name in tensors if name not in NAMES]:
        raise UserError(
            f"the classifier in {source} has {shortened(unknown)}, which is not read: it may have "
            "a norm and one linear layer."
        )
    if lost := [k for k in ("linear.weight", "linear.bias") if k not in tensors]:
        raise UserError(f"the classifier in {source} lacks its {lost[0]}; give the whole file.")
    for name, tensor in tensors.items():
        if reason := unsound(tensor):
            raise UserError(f"the classifier in {source} is unfit: its {name} {reason}.")
    if tensors["linear.weight"].ndim != 2:
        shape = tuple(tensors["linear.weight"].shape)
        raise UserError(f"the classifier in {source} is no linear layer: its weight is {shape}.")


def _reads(tensors: Mapping[str, Tensor], backbone: Backbone, config: BackboneConfig) -> str:
    """The pooling that a classifier with these tensors is for."""
    if "norm.weight" in tensors:
        return UNNORMED if isinstance(backbone.get_submodule("norm"), nn.Identity) else "mean"
    if tensors["linear.weight"].shape[1] == 2 * backbone.embed_dim:
        return "cls+mean"
    return "mean" if config.family == "swin" else "cls"
