"""DINO: self-distillation with no labels (Caron et al., 2021, arXiv:2104.14294).

    min_student  sum over views v != q of  H( P_teacher(q), P_student(v) )
    P_teacher = softmax((head(f(q)) - c) / tau_t),  P_student = softmax(head(f(v)) / tau_s)

The teacher sees the global crops only and is the EMA of the student; c is the running mean of the
teacher's logits. Defaults are the paper's ViT-S/16 recipe (recipes.md section 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor, nn

from sslbench.backbones.base import Backbone
from sslbench.data.views import MultiCrop, MultiCropConfig
from sslbench.method import Method, Progress, ViewBatch
from sslbench.methods.heads import ProjectionHead, make_teacher, official_head, update_teacher
from sslbench.methods.losses import (
    Centre,
    check_pairs,
    cls_loss,
    cosine,
    entropy,
    frozen_throughout,
    temperature,
    unreached_temperature,
)
from sslbench.settings import Epochs, Temperature, Width, setting


@dataclass(frozen=True)
class DINOConfig:
    """As main_dino.py. head_batch_norm_apart: the official head takes one set over all crops."""

    out_dim: Annotated[Width, setting("prototypes", ge=2)] = 65536
    hidden_dim: Annotated[Width, setting("width of the head")] = 2048
    bottleneck_dim: Annotated[Width, setting("width before the prototypes")] = 256
    norm_last_layer: Annotated[bool, setting("whether prototypes keep length 1")] = False
    head_batch_norm: Annotated[bool, setting("batch norm in the head")] = False
    head_batch_norm_apart: Annotated[
        bool, setting("crops of each size take batch statistics of their own")
    ] = False
    freeze_last_layer: Annotated[
        Epochs, setting("prototypes stay as they are at first", "epochs")
    ] = 1.0
    student_temp: Annotated[Temperature, setting("temperature of the student")] = 0.1
    teacher_temp: Annotated[Temperature, setting("final temperature of the teacher")] = 0.07
    warmup_teacher_temp: Annotated[Temperature, setting("teacher's temperature at the start")] = (
        0.04
    )
    warmup_teacher_temp_epochs: Annotated[
        Epochs, setting("linear change of the teacher's temperature", "epochs")
    ] = 30.0
    momentum: Annotated[float, setting("momentum of the teacher, rising to 1", ge=0, lt=1)] = 0.996
    centre_momentum: Annotated[float, setting("momentum of the centre", ge=0, le=1)] = 0.9
    views: MultiCropConfig = field(default_factory=MultiCropConfig)

    def __post_init__(self) -> None:
        check_pairs(self.views)


class DINO(Method):
    name = "dino"
    Config = DINOConfig
    order = "interleaved"  # dino/eval_linear.py:166-170

    def __init__(self, config: DINOConfig, make_backbone: Callable[..., Backbone]) -> None:
        super().__init__(config, make_backbone)
        self.config = config
        backbone = make_backbone()
        width = backbone.embed_dim
        self.student = nn.ModuleDict({"backbone": backbone, "head": self._head(width)})
        teacher = nn.ModuleDict(
            {"backbone": make_backbone(drop_path=0.0), "head": self._head(width)}
        )
        self.teacher = make_teacher(self.student, teacher)
        self.centre = Centre(config.out_dim, config.centre_momentum)

    def _head(self, width: int) -> ProjectionHead:
        c = self.config
        return ProjectionHead(
            width,
            c.out_dim,
            c.hidden_dim,
            c.bottleneck_dim,
            c.norm_last_layer,
            c.head_batch_norm,
        )

    @classmethod
    def views(cls, config: DINOConfig, patch_size: int) -> MultiCrop:
        return MultiCrop(config.views, patch_size)

    @classmethod
    def needs_whole_batch(cls, config: DINOConfig) -> str:
        return "method.head_batch_norm=True" if config.head_batch_norm else ""

    @classmethod
    def effective_epochs(cls, config: DINOConfig, epochs: float) -> float:
        return epochs * config.views.relative_area

    @classmethod
    def image_tokens(cls, config: DINOConfig, patch_size: int) -> int:
        return config.views.patches(patch_size)

    @classmethod
    def unreached(cls, config: DINOConfig, epochs: float) -> Iterator[str]:
        yield from unreached_temperature(config, "teacher_temp", epochs)
        yield from frozen_throughout(config.freeze_last_layer, epochs)

    def loss(self, batch: ViewBatch, progress: Progress) -> dict[str, Tensor]:
        c = self.config
        crops = batch.images("global")
        with torch.no_grad():
            logits = self._cls_logits(self.teacher, [crops])
        tau = temperature(
            c.warmup_teacher_temp, c.teacher_temp, c.warmup_teacher_temp_epochs, progress
        )
        targets = self.centre.sharpen(logits, tau)
        self.centre.observe(logits)
        sizes = [crops, batch.images("local")] if "local" in batch.crops else [crops]
        loss = cls_loss(self._cls_logits(self.student, sizes), targets, c.student_temp)
        return {"loss": loss, "teacher_entropy": entropy(targets)}

    def _cls_logits(self, network: nn.ModuleDict, sizes: Sequence[Tensor]) -> Tensor:
        """(V_i, B, 3, H_i, W_i) of every size of crop -> (V, B, K), V the sum of all V_i.

        Crops of one size share a forward of the backbone, all crops one of the head, and so its
        batch statistics (dino/utils.py:594-629).
        """
        cls = [network["backbone"](crops.flatten(0, 1)).cls for crops in sizes]
        parts = cls if self.config.head_batch_norm_apart else [torch.cat(cls)]
        logits = torch.cat([network["head"](part) for part in parts])
        return logits.unflatten(0, (-1, sizes[0].shape[1]))

    def frozen(self, progress: Progress) -> Iterable[nn.Parameter]:
        """Prototypes stay put for the first epochs (dino/utils.py:144-149, trap T9)."""
        if progress.step < self.config.freeze_last_layer * progress.steps_per_epoch:
            return self.student["head"].last_layer.parameters()
        return ()

    def after_step(self, progress: Progress) -> None:
        update_teacher(self.student, self.teacher, cosine(self.config.momentum, 1.0, progress))
        self.centre.step()

    def discard(self) -> None:
        self.centre.forget()

    def backbone(self) -> nn.Module:
        return self.teacher["backbone"]

    def head(self) -> nn.Module:
        return self.teacher["head"]

    @classmethod
    def official_head(cls, tensors: Mapping[str, Tensor]) -> nn.Module | None:
        return official_head(tensors)

    def health(self) -> Mapping[str, float]:
        uniform = math.log(self.config.out_dim)
        return {"loss": uniform, "teacher_entropy": uniform}
