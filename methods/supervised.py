"""A classifier trained end to end: fine-tuning, or DeiT's training from scratch.

    min  - sum_k  y_k log softmax(W h(f(x)))_k,   (x, y) a mixed image and its mixed, smoothed label

f is a pretrained or fresh backbone, W a new linear layer. What h reads is the paper's: [CLS] behind
the pretrained final norm (iBOT, DINO: ibot/run.sh:165-193), or the mean patch behind a new norm in
the place of the final one (BEiT: beit/modeling_finetune.py:285-286,347-352); for semi-supervised
learning, the first layer of the pretrained projection head lies between h and W
(ibot/evaluation/semi_supervised/eval_cls.py:207-256). Defaults are those that BEiT's and iBOT's
`run_class_finetuning.py` share.

Shapes: B images, K classes, D values of a token.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from sslbench.backbones.base import Backbone
from sslbench.data.recognition import Recognition, RecognitionConfig
from sslbench.errors import UserError
from sslbench.method import UNNORMED, Method, Progress, Start, ViewBatch, fill
from sslbench.methods.mixing import Erasing, Mixing
from sslbench.settings import Factor, Probability, Width, setting


@dataclass(frozen=True)
class SupervisedConfig:
    """mix_group: the images of a GPU in the papers; any even number divides into pairs."""

    classes: Annotated[Width, setting("classes of the data", ge=2)] = 1000
    token: Annotated[Literal["cls", "mean"], setting("what is classified")] = "cls"
    norm: Annotated[
        Literal["pretrained", "new"], setting("the final norm: the backbone's, or a fresh one")
    ] = "pretrained"
    projection: Annotated[
        Width | None, setting("width of the projection head's first layer, if it is used")
    ] = None
    head_std: Annotated[float, setting("std of the classifier's weights", gt=0, le=10)] = 0.02
    head_scale: Annotated[float, setting("factor of the fresh classifier", gt=0, le=1)] = 0.001
    smoothing: Annotated[float, setting("share of a label spread over all", ge=0, lt=1)] = 0.1
    mixup: Annotated[Factor, setting("parameter of mixup's beta distribution, 0: off")] = 0.8
    cutmix: Annotated[Factor, setting("parameter of cutmix's beta distribution, 0: off")] = 1.0
    mix_probability: Annotated[Probability, setting("that images are mixed")] = 1.0
    mix_switch: Annotated[Probability, setting("that cutmix mixes them, not mixup")] = 0.5
    mix_group: Annotated[int, setting("images that are mixed by one share", ge=2)] = 128
    ema: Annotated[float, setting("momentum of averaged weights, 0: none", ge=0, lt=1)] = 0.0
    views: RecognitionConfig = field(default_factory=RecognitionConfig)

    def __post_init__(self) -> None:
        if self.mix_group % 2:
            raise ValueError(f"mix_group={self.mix_group} is odd, and images are mixed in pairs")
        if self.token == "cls" and self.norm == "new":
            raise ValueError(
                "token='cls' is read behind the pretrained norm: set norm='pretrained', or "
                "token='mean' for a new one"
            )

    @property
    def mixes(self) -> bool:
        return bool(self.mix_probability and (self.mixup or self.cutmix))


class Classifier(nn.Module):
    """Pooled token (B, D) -> logits (B, K): new norm, projection, linear layer; those there are."""

    def __init__(self, config: SupervisedConfig, width: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=eps) if config.norm == "new" else None
        self.projection = nn.Linear(width, config.projection) if config.projection else None
        self.linear = nn.Linear(config.projection or width, config.classes)
        for layer in (self.projection, self.linear):
            if layer is not None:
                nn.init.trunc_normal_(layer.weight, std=config.head_std)
                nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.linear.weight.mul_(config.head_scale)

    def forward(self, x: Tensor) -> Tensor:
        if self.norm is not None:
            x = self.norm(x)
        if self.projection is not None:
            x = nn.functional.gelu(self.projection(x))
        return self.linear(x)


class Network(nn.Module):
    """A backbone and its classifier."""

    def __init__(self, config: SupervisedConfig, backbone: Backbone) -> None:
        super().__init__()
        self.backbone, self.token, self.normed = backbone, config.token, config.norm != "new"
        norm = getattr(backbone, "norm", None)
        self.classifier = Classifier(config, backbone.embed_dim, getattr(norm, "eps", 1e-6))
        if norm is not None and not self.normed:
            norm.requires_grad_(False)  # unused, kept so that the backbone stays what it was

    def forward(self, images: Tensor) -> Tensor:
        """images: normalised (B, 3, H, W) -> logits (B, K)."""
        if self.token == "cls":
            return self.classifier(self.backbone.cls_tokens(images))
        tokens = self.backbone(images) if self.normed else self.backbone.last_blocks(images, 1)[-1]
        return self.classifier(tokens.patches.mean(1))


class Supervised(Method):
    name = "supervised"
    Config = SupervisedConfig
    poolings = ("cls", "mean", "mean without norm")

    def __init__(self, config: SupervisedConfig, make_backbone: Callable[..., Backbone]) -> None:
        super().__init__(config, make_backbone)
        self.config = config
        self.network = Network(config, make_backbone())
        self.average = None
        if config.ema:
            self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.erasing = Erasing()
        self.mixing = Mixing(
            config.classes,
            config.smoothing,
            config.mixup,
            config.cutmix,
            config.mix_probability,
            config.mix_switch,
            config.mix_group,
        )

    @classmethod
    def views(cls, config: SupervisedConfig, patch_size: int) -> Recognition:
        return Recognition(config.views, patch_size)

    @classmethod
    def stays_together(cls, config: SupervisedConfig) -> tuple[int, str]:
        group = config.mix_group if config.mixes else 1
        return group, f"method.mix_group={group}"

    @classmethod
    def image_tokens(cls, config: SupervisedConfig, patch_size: int) -> int:
        return (config.views.size // patch_size) ** 2

    def loss(self, batch: ViewBatch, progress: Progress) -> dict[str, Tensor]:
        """Mean cross-entropy in nats between predictions and mixed targets."""
        if batch.labels is None:
            raise UserError("a classifier learns from labels, and this data has none.")
        images = batch.images("image")[0]  # (B, 3, H, W)
        if "erased" in batch.masks:
            images = self.erasing(images, batch.masks["erased"][0], batch.masked("erased"))
        images, targets = self.mixing(images, batch.labels)
        logits = self.network(images).float()  # (B, K)
        return {"loss": -(targets * logits.log_softmax(-1)).sum(-1).mean()}

    def logits(self, images: Tensor) -> dict[str, Tensor]:
        """Predictions (B, K) by name of the weights: "" as trained, "EMA" where they are averaged.

        images: normalised, float (B, 3, H, W).
        """
        networks = {"": self.network, "EMA": self.average}
        return {name: net(images).float() for name, net in networks.items() if net is not None}

    @torch.no_grad()
    def after_step(self, progress: Progress) -> None:
        """EMA of every parameter, as timm's ModelEma."""
        if self.average is None:
            return
        averages, trained = list(self.average.parameters()), list(self.network.parameters())
        torch._foreach_lerp_(averages, trained, 1 - self.config.ema)

    def start_from(self, start: Start) -> list[str]:
        """Loads the backbone and, where it is used, the first layer of its projection head."""
        notes = fill(self.network.backbone, start.backbone)
        kept = ["the backbone"]
        layer = self.network.classifier.projection
        if layer is not None:
            layers = getattr(start.head, "layers", None)
            if layers is None or layers[0].weight.shape != layer.weight.shape:
                raise UserError(
                    f"method.projection={self.config.projection} is the first layer of the "
                    "projection head, which this source does not have in that width; give the full "
                    "checkpoint, or set method.projection=None."
                )
            layer.load_state_dict(layers[0].state_dict())
            kept.append("the first layer of the projection head")
        kept += self._keep(start.others.get("classifier", {}))
        if self.average is not None:
            self.average.load_state_dict(self.network.state_dict())
        new = "" if "the classifier" in kept else "; the classifier is new"
        return [f"{' and '.join(kept)} of the source{new}", *notes]

    def _keep(self, classifier: Mapping[str, Tensor]) -> list[str]:
        """Loads the layers of a trained classifier that fit, and names them.

        A second stage goes on from those of the first (beit/run_class_finetuning.py:325-330 leaves
        out what has another shape).
        """
        kept = []
        for name, words in (("norm", "the new norm"), ("linear", "the classifier")):
            layer = getattr(self.network.classifier, name)
            wanted = {} if layer is None else layer.state_dict()
            tensors = {k: classifier[f"{name}.{k}"] for k in wanted if f"{name}.{k}" in classifier}
            if wanted and _shapes(tensors) == _shapes(wanted):
                layer.load_state_dict(tensors)
                kept.append(words)
        return kept

    def backbone(self) -> nn.Module:
        return self.network.backbone

    def trained_classifier(self) -> nn.Module:
        return self.network.classifier

    @classmethod
    def reads(cls, config: SupervisedConfig) -> str:
        if config.token == "cls":
            return "cls"
        return "mean" if config.norm == "pretrained" else UNNORMED


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
