"""iBOT: image BERT pre-training with an online tokenizer (Zhou et al., 2022, arXiv:2111.07832).

    L = L_[CLS] + L_MIM
    L_[CLS]: DINO's loss, the student's global crops being the *masked* ones
    L_MIM = - sum over masked patches i of  P_teacher(u)_i . log P_student(u_masked)_i   (same view)

The teacher, the EMA of the student, sees unmasked crops and so is the tokenizer. By default one
head serves [CLS] and patches; the patches may instead have prototypes of their own, in both
networks or, "semi-shared", in the student alone (App. E, Architecture of Projection Head).
Defaults are those of the ViT-S/16 in the README of bytedance/ibot.

Shapes: V views, G of them global, B images, N patches of a crop, M masked patches of a batch, K
prototypes, D values of a token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor

from sslbench.backbones.base import Backbone
from sslbench.data.masks import MaskConfig
from sslbench.data.views import MultiCrop, MultiCropConfig
from sslbench.errors import UserError
from sslbench.method import Progress, ViewBatch, chosen
from sslbench.methods.heads import ProjectionHead
from sslbench.methods.losses import Centre, cls_loss, entropy, patch_loss
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
    unreached_temperature,
)
from sslbench.settings import Epochs, Factor, Temperature, Width, setting

PROBES = 8  # patches per crop whose entropy is logged


@dataclass(frozen=True)
class IBOTConfig:
    """mask.start_epoch delays the masks and with them the patch temperature's warm-up.

    count_unmasked: see `patch_loss`. shared_head, shared_head_teacher: as the official flags, False
    and True are the semi-shared head, whose teacher is the EMA of the [CLS] prototypes.
    head_batch_norm_apart: the official head takes one set of statistics over both.
    """

    out_dim: Annotated[Width, setting("prototypes of [CLS]", ge=2)] = 8192
    patch_out_dim: Annotated[
        Width, setting("prototypes of patches that have a head of their own", ge=2)
    ] = 8192
    shared_head: Annotated[bool, setting("whether the student has one head for both")] = True
    shared_head_teacher: Annotated[bool, setting("whether the teacher has one head for both")] = (
        True
    )
    hidden_dim: HiddenDim = 2048
    bottleneck_dim: BottleneckDim = 256
    norm_last_layer: NormLastLayer = False
    head_batch_norm: HeadBatchNorm = False
    head_batch_norm_apart: Annotated[
        bool, setting("[CLS] and patches are normalised apart, by norms of their own")
    ] = False
    freeze_last_layer: FreezeLastLayer = 1.0
    student_temp: StudentTemp = 0.1
    teacher_temp: Annotated[Temperature, setting("final temperature of the teacher's [CLS]")] = 0.07
    teacher_patch_temp: Annotated[
        Temperature, setting("final temperature of the teacher's patches")
    ] = 0.07
    warmup_teacher_temp: Annotated[Temperature, setting("teacher's temperatures at the start")] = (
        0.04
    )
    warmup_teacher_temp_epochs: Annotated[
        Epochs, setting("linear change of the teacher's temperatures", "epochs")
    ] = 30.0
    momentum: Momentum = 0.996
    centre_momentum: Annotated[float, setting("momentum of the centres", ge=0, le=1)] = 0.9
    cls_weight: Annotated[Factor, setting("factor of the [CLS] loss")] = 1.0
    patch_weight: Annotated[Factor, setting("factor of the patch loss")] = 1.0
    count_unmasked: Annotated[
        bool, setting("images without a mask count as 0 in the patch loss")
    ] = True
    views: MultiCropConfig = field(default_factory=MultiCropConfig)
    mask: MaskConfig = field(default_factory=MaskConfig)

    def __post_init__(self) -> None:
        check_pairs(self.views)
        if not self.cls_weight and not self.patch_weight:
            raise ValueError("cls_weight=0 and patch_weight=0 leave no loss")
        if self.shared_head and not self.shared_head_teacher:
            raise UserError(
                "method.shared_head_teacher=False needs method.shared_head=False: the teacher's "
                "patch prototypes are the EMA of the student's own."
            )
        if self.shared_head_teacher and not self.shared_head and self.patch_dim != self.out_dim:
            raise UserError(
                f"method.patch_out_dim={self.patch_out_dim} must be method.out_dim={self.out_dim}, "
                "the width of the teacher's shared head; or set method.shared_head_teacher=False."
            )

    @property
    def patch_dim(self) -> int:
        """Prototypes of the student's patches."""
        return self.out_dim if self.shared_head else self.patch_out_dim


class IBOT(SelfDistillation):
    name = "ibot"
    Config = IBOTConfig
    config: IBOTConfig

    def __init__(self, config: IBOTConfig, make_backbone: Callable[..., Backbone]) -> None:
        super().__init__(config, make_backbone, mask_token=True)
        head, teacher_head = self.student["head"], self.teacher["head"]
        if teacher_head.last_layer2 is None and head.last_layer2 is not None:
            # as load_state_dict does there: it fills the one layer twice, last by that of the
            # patches (ibot/main_ibot.py:263)
            teacher_head.last_layer.load_state_dict(head.last_layer2.state_dict())
        self.patch_centre = Centre(config.patch_dim, config.centre_momentum)

    def _heads(self, width: int) -> tuple[ProjectionHead, ProjectionHead]:
        c = self.config
        student, teacher = (
            self._head(
                width,
                patch_out_dim=None if shared else c.patch_out_dim,
                patch_norms=c.head_batch_norm_apart,
            )
            for shared in (c.shared_head, c.shared_head_teacher)
        )
        return student, teacher

    @classmethod
    def views(cls, config: IBOTConfig, patch_size: int) -> MultiCrop:
        return MultiCrop(config.views, patch_size, config.mask)

    @classmethod
    def settings_to_start(cls, *of_weights: Any) -> dict[str, Any]:
        """Prototypes of patches apart from those of [CLS], where the weights have them so."""
        settings, head = super().settings_to_start(*of_weights), of_weights[2]
        if isinstance(head, ProjectionHead) and head.last_layer2 is not None:
            patches = len(head.last_layer2.weight_v)
            settings |= {"shared_head": False, "shared_head_teacher": False}
            settings["patch_out_dim"] = patches
        return settings

    @classmethod
    def needs_whole_batch(cls, config: IBOTConfig) -> str:
        of_images = "" if config.count_unmasked else "method.count_unmasked=False"
        return super().needs_whole_batch(config) or of_images

    @classmethod
    def unreached(cls, config: IBOTConfig, epochs: float) -> Iterator[str]:
        yield from super().unreached(config, epochs)
        start = config.mask.start_epoch
        if start > math.ceil(epochs) - 1:
            yield (
                f"method.mask.start_epoch={start:g} never comes within train.epochs={epochs:g}: "
                "nothing is masked and the patch loss stays 0"
            )
        else:
            yield from unreached_temperature(config, "teacher_patch_temp", epochs, start)

    def loss(self, batch: ViewBatch, progress: Progress) -> dict[str, Tensor]:
        """Weighted sum of the [CLS] and the patch loss, both cross-entropies in nats."""
        c = self.config
        crops, mask = batch.images("global"), batch.masks["global"]  # (G, B, 3, H, W), (G, B, h, w)
        masked = batch.masked("global")  # (M,)
        cls_targets, patch_targets, read = self._targets(crops, masked, progress)

        cls_logits, patch_logits = self._student_logits(crops, mask, masked)  # (G, B, K), (M, K)
        if "local" in batch.crops:
            # a call of the head of its own, as in ibot/main_ibot.py:403-412
            local_logits = self._local_logits(batch.images("local"))  # (V - G, B, K)
            cls_logits = torch.cat([cls_logits, local_logits])  # (V, B, K)

        loss_cls = cls_loss(cls_logits, cls_targets, c.student_temp)
        patch_mask = mask.flatten(2)  # (G, B, N)
        loss_patch = patch_loss(
            patch_logits, patch_targets, patch_mask, c.student_temp, c.count_unmasked
        )
        loss = c.cls_weight * loss_cls + c.patch_weight * loss_patch
        if progress.logged:
            read["masked"] = mask.float().mean()
        return {
            "loss": loss,
            "loss_cls": loss_cls.detach(),
            "loss_patch": loss_patch.detach(),
            **read,
        }

    def _student_logits(self, crops: Tensor, mask: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        """Crops (V, B, 3, H, W) -> [CLS] logits (V, B, K) and those of masked patches (M, K).

        mask: bool (V, B, h, w), True = masked; masked: where, int64 (M,) on the CPU. Only masked
        patches enter the loss, so no others need logits.
        """
        backbone, head = self.student["backbone"], self.student["head"]
        images, hidden = crops.flatten(0, 1), mask.flatten(0, 1)  # (V * B, h, w)
        if head.joins_statistics:
            tokens = backbone(images, hidden)
            cls, patches = head.tokens(tokens.cls, tokens.patches, masked)
        else:
            cls, patches = head.tokens(*backbone.cls_and_masked(images, hidden, masked))
        return cls.unflatten(0, crops.shape[:2]), patches

    def _local_logits(self, crops: Tensor) -> Tensor:
        """Crops (V, B, 3, H, W) -> [CLS] logits (V, B, K); their patches enter no loss."""
        backbone, head = self.student["backbone"], self.student["head"]
        images = crops.flatten(0, 1)
        if head.joins_statistics:
            tokens = backbone(images)
            none = torch.empty(0, dtype=torch.int64)
            cls, _ = head.tokens(tokens.cls, tokens.patches, none)
        else:
            cls = head(backbone.cls_tokens(images))
        return cls.unflatten(0, crops.shape[:2])

    @torch.no_grad()
    def _targets(
        self, crops: Tensor, masked: Tensor, progress: Progress
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The teacher's probabilities of [CLS] (G, B, K) and masked patches (M, K); what is logged.

        crops: unmasked (G, B, 3, H, W); masked: places among all patches, int64 (M,). The patch
        centre is the mean over *all* patches, masked or not (ibot/main_ibot.py:556,569-572). Logits
        are linear in the head's unit vectors, so their sum over the patches is the logits of the
        vectors' sum.
        """
        c, head = self.config, self.teacher["head"]
        tokens = self.teacher["backbone"](crops.flatten(0, 1))
        of_cls, units = head.unit_vectors(tokens.cls, tokens.patches)  # (G * B * N, C)
        cls_logits = head.last_layer(of_cls)
        tau = self._teacher_temperature(c.teacher_temp, progress)
        patch_tau = self._teacher_temperature(c.teacher_patch_temp, progress, c.mask.start_epoch)
        cls_targets = self.centre.sharpen(cls_logits, tau).unflatten(0, crops.shape[:2])
        masked_logits = head.patch_layer(chosen(units, masked))  # (M, K)
        patch_targets = self.patch_centre.sharpen(masked_logits, patch_tau)
        read = {}
        if progress.logged:
            read["teacher_entropy"] = entropy(cls_targets)
            read["patch_entropy"] = self._patch_entropy(
                units.view(*tokens.patches.shape[:2], -1), patch_tau
            )
        self.centre.observe(cls_logits)
        with torch.autocast(units.device.type, enabled=False):
            total = head.patch_layer(units.float().sum(0, keepdim=True))[0]  # (K,)
        self.patch_centre.observe_sum(total, len(units))
        return cls_targets, patch_targets, read

    def _patch_entropy(self, units: Tensor, tau: float) -> Tensor:
        """In nats, over a few patches of every crop, so that it exists without a mask too.

        units: unit vectors of the teacher's patches (G * B, N, C). The patches are the same of a
        crop however the batch is shared among processes.
        """
        probes = units[:, :: max(1, units.shape[1] // PROBES)].flatten(0, 1)
        logits = self.teacher["head"].patch_layer(probes)
        return entropy(self.patch_centre.sharpen(logits, tau))

    def health(self) -> Mapping[str, float]:
        c = self.config
        uniform, patch = math.log(c.out_dim), math.log(c.patch_dim)
        return {"loss_cls": uniform, "teacher_entropy": uniform, "patch_entropy": patch}
