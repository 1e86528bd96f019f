"""DINO: self-distillation with no labels (Caron et al., 2021, arXiv:2104.14294).

    min_student  sum over views v != q of  H( P_teacher(q), P_student(v) )
    P_teacher = softmax((head(f(q)) - c) / tau_t),  P_student = softmax(head(f(v)) / tau_s)

The teacher sees the global crops only and is the EMA of the student; c is the running mean of the
teacher's logits. Defaults are those of the released ViT-S/16 (the README of facebookresearch/dino
links its arguments).

Shapes: V views, G of them global, B images, K prototypes, D values of a token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor, nn

from sslbench.data.views import MultiCropConfig
from sslbench.method import Progress, ViewBatch
from sslbench.methods.losses import cls_loss, entropy
from sslbench.methods.self_distillation import (
    BottleneckDim,
    FreezeLastLayer,
    HeadBatchNorm,
    HiddenDim,
    Momentum,
    NormLastLayer,
    SelfDistillation,
    StudentTemp,
    check_pairs,
)
from sslbench.settings import Epochs, Temperature, Width, setting


@dataclass(frozen=True)
class DINOConfig:
    """As main_dino.py. head_batch_norm_apart: the official head takes one set over all crops."""

    out_dim: Annotated[Width, setting("prototypes", ge=2)] = 65536
    hidden_dim: HiddenDim = 2048
    bottleneck_dim: BottleneckDim = 256
    norm_last_layer: NormLastLayer = False
    head_batch_norm: HeadBatchNorm = False
    head_batch_norm_apart: Annotated[
        bool, setting("crops of each size take batch statistics of their own")
    ] = False
    freeze_last_layer: FreezeLastLayer = 1.0
    student_temp: StudentTemp = 0.1
    teacher_temp: Annotated[Temperature, setting("final temperature of the teacher")] = 0.07
    warmup_teacher_temp: Annotated[Temperature, setting("teacher's temperature at the start")] = (
        0.04
    )
    warmup_teacher_temp_epochs: Annotated[
        Epochs, setting("linear change of the teacher's temperature", "epochs")
    ] = 30.0
    momentum: Momentum = 0.996
    centre_momentum: Annotated[float, setting("momentum of the centre", ge=0, le=1)] = 0.9
    views: MultiCropConfig = field(default_factory=MultiCropConfig)

    def __post_init__(self) -> None:
        check_pairs(self.views)


class DINO(SelfDistillation):
    name = "dino"
    Config = DINOConfig
    order = "interleaved"  # dino/eval_linear.py:166-170
    config: DINOConfig

    def loss(self, batch: ViewBatch, progress: Progress) -> dict[str, Tensor]:
        """Mean cross-entropy in nats over all pairs of a global crop and another view."""
        crops = [batch.images("global")]  # of each size (V_i, B, 3, H_i, W_i)
        if "local" in batch.crops:
            crops.append(batch.images("local"))
        targets = self._targets(crops[0], progress)  # (G, B, K)
        logits = self._cls_logits(self.student, crops)  # (V, B, K)
        loss = {"loss": cls_loss(logits, targets, self.config.student_temp)}
        return loss | {"teacher_entropy": entropy(targets)} if progress.logged else loss

    @torch.no_grad()
    def _targets(self, crops: Tensor, progress: Progress) -> Tensor:
        """The teacher's probabilities: global crops (G, B, 3, H, W) -> (G, B, K)."""
        logits = self._cls_logits(self.teacher, [crops])  # (G, B, K)
        tau = self._teacher_temperature(self.config.teacher_temp, progress)
        targets = self.centre.sharpen(logits, tau)
        self.centre.observe(logits)
        return targets

    def _cls_logits(self, network: nn.ModuleDict, crops: Sequence[Tensor]) -> Tensor:
        """Crops of every size (V_i, B, 3, H_i, W_i) -> logits (V, B, K), V the sum of all V_i.

        Crops of one size share a forward of the backbone, all crops one of the head, and so its
        batch statistics (dino/utils.py:594-629).
        """
        backbone, head = network["backbone"], network["head"]
        cls = [backbone.cls_tokens(views.flatten(0, 1)) for views in crops]  # (V_i * B, D)
        parts = cls if self.config.head_batch_norm_apart else [torch.cat(cls)]
        logits = torch.cat([head(part) for part in parts])  # (V * B, K)
        return logits.unflatten(0, (-1, crops[0].shape[1]))

    def health(self) -> Mapping[str, float]:
        uniform = math.log(self.config.out_dim)
        return {"loss": uniform, "teacher_entropy": uniform}
