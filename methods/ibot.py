"""iBOT: image BERT pre-training with an online tokenizer (Zhou et al., 2022, arXiv:2111.07832).

    L = L_[CLS] + L_MIM
    L_[CLS]: DINO's loss, the student's global crops being the *masked* ones
    L_MIM = - sum over masked patches i of  P_teacher(u)_i . log P_student(u_masked)_i   (same view)

The teacher, the EMA of the student, sees unmasked crops and so is the tokenizer. One head serves
[CLS] and patches by default; in others the patches have prototypes of their own, in both networks
or, "semi-shared", in the student alone (App. E, Architecture of Projection Head). Defaults are the
README's ViT-S/16 recipe (recipes.md section 4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor, nn

from sslbench.backbones.base import Backbone
from sslbench.data.masks import MaskConfig
from sslbench.data.views import MultiCrop, MultiCropConfig
from sslbench.errors import UserError
from sslbench.method import Method, Progress, ViewBatch
from sslbench.methods.heads import ProjectionHead, make_teacher, official_head, update_teacher
from sslbench.methods.losses import (
    Centre,
    check_pairs,
    cls_loss,
    cosine,
    entropy,
    frozen_throughout,
    patch_loss,
    temperature,
    unreached_temperature,
)
from sslbench.settings import Epochs, Factor, Temperature, Width, setting

PROBES = 8  # patches a crop whose entropy is logged


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
    hidden_dim: Annotated[Width, setting("width of the head")] = 2048
    bottleneck_dim: Annotated[Width, setting("width before the prototypes")] = 256
    norm_last_layer: Annotated[bool, setting("whether prototypes keep length 1")] = False
    head_batch_norm: Annotated[bool, setting("batch norm in the head")] = False
    head_batch_norm_apart: Annotated[
        bool, setting("[CLS] and patches are normalised apart, by norms of their own")
    ] = False
    freeze_last_layer: Annotated[
        Epochs, setting("prototypes stay as they are at first", "epochs")
    ] = 1.0
    student_temp: Annotated[Temperature, setting("temperature of the student")] = 0.1
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
    momentum: Annotated[float, setting("momentum of the teacher, rising to 1", ge=0, lt=1)] = 0.996
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


class IBOT(Method):
    name = "ibot"
    Config = IBOTConfig

    def __init__(self, config: IBOTConfig, make_backbone: Callable[..., Backbone]) -> None:
        super().__init__(config, make_backbone)
        self.config = config
        backbone = make_backbone(mask_token=True)
        width = backbone.embed_dim
        head = self._head(width, config.shared_head)
        self.student = nn.ModuleDict({"backbone": backbone, "head": head})
        taught = self._head(width, config.shared_head_teacher)
        self.teacher = make_teacher(
            self.student,
            nn.ModuleDict({"backbone": make_backbone(drop_path=0.0), "head": taught}),
        )
        if taught.last_layer2 is None and head.last_layer2 is not None:
            # load_state_dict fills the official alias twice, last by the patches (main_ibot.py:263)
            taught.last_layer.load_state_dict(head.last_layer2.state_dict())
        self.centre = Centre(config.out_dim, config.centre_momentum)
        self.patch_centre = Centre(config.patch_dim, config.centre_momentum)

    def _head(self, width: int, shared: bool) -> ProjectionHead:
        c = self.config
        return ProjectionHead(
            width,
            c.out_dim,
            c.hidden_dim,
            c.bottleneck_dim,
            c.norm_last_layer,
            c.head_batch_norm,
            patch_out_dim=None if shared else c.patch_out_dim,
            patch_norms=c.head_batch_norm_apart,
        )

    @classmethod
    def views(cls, config: IBOTConfig, patch_size: int) -> MultiCrop:
        return MultiCrop(config.views, patch_size, config.mask)

    @classmethod
    def needs_whole_batch(cls, config: IBOTConfig) -> str:
        if config.head_batch_norm:
            return "method.head_batch_norm=True"
        return "" if config.count_unmasked else "method.count_unmasked=False"

    @classmethod
    def effective_epochs(cls, config: IBOTConfig, epochs: float) -> float:
        return epochs * config.views.relative_area

    @classmethod
    def image_tokens(cls, config: IBOTConfig, patch_size: int) -> int:
        return config.views.patches(patch_size)

    @classmethod
    def unreached(cls, config: IBOTConfig, epochs: float) -> Iterator[str]:
        start = config.mask.start_epoch
        yield from unreached_temperature(config, "teacher_temp", epochs)
        yield from frozen_throughout(config.freeze_last_layer, epochs)
        if start > math.ceil(epochs) - 1:
            yield (
                f"method.mask.start_epoch={start:g} never comes within train.epochs={epochs:g}: "
                "nothing is masked and the patch loss stays 0"
            )
        else:
            yield from unreached_temperature(config, "teacher_patch_temp", epochs, start)

    def loss(self, batch: ViewBatch, progress: Progress) -> dict[str, Tensor]:
        c = self.config
        crops, mask = batch.images("global"), batch.masks["global"]
        shape, mask = crops.shape[:2], mask.flatten(2)  # (V, B), (V, B, N)
        cls_targets, patch_targets, patch_entropy = self._targets(crops, mask, progress)

        tokens = self.student["backbone"](crops.flatten(0, 1), batch.masks["global"].flatten(0, 1))
        head = self.student["head"]
        # only masked tokens enter the loss, so only they need logits
        logits, masked = head.tokens(tokens.cls, tokens.patches, mask.flatten(0, 1))
        student = [logits.unflatten(0, shape)]
        if "local" in batch.crops:
            local = batch.images("local")
            tokens = self.student["backbone"](local.flatten(0, 1))
            none = torch.zeros_like(tokens.patches[..., 0], dtype=torch.bool)
            logits, _ = head.tokens(tokens.cls, tokens.patches, none)  # a call of its own, as there
            student.append(logits.unflatten(0, local.shape[:2]))

        loss_cls = cls_loss(torch.cat(student), cls_targets, c.student_temp)
        loss_patch = patch_loss(masked, patch_targets, mask, c.student_temp, c.count_unmasked)
        return {
            "loss": c.cls_weight * loss_cls + c.patch_weight * loss_patch,
            "loss_cls": loss_cls.detach(),
            "loss_patch": loss_patch.detach(),
            "teacher_entropy": entropy(cls_targets),
            "patch_entropy": patch_entropy,
            "masked": mask.float().mean(),
        }

    @torch.no_grad()
    def _targets(
        self, crops: Tensor, mask: Tensor, progress: Progress
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Teacher probabilities for [CLS] (V, B, K) and the M masked patches (M, K); an entropy.

        The entropy is over a few patches of every crop, so that it exists without a mask too.

        The patch centre is the mean over *all* patches, masked or not (trap T1).
        """
        c = self.config
        tokens = self.teacher["backbone"](crops.flatten(0, 1))
        every = torch.ones_like(tokens.patches[..., 0], dtype=torch.bool)
        cls_logits, patch_logits = self.teacher["head"].tokens(tokens.cls, tokens.patches, every)
        patch_logits = patch_logits.unflatten(0, every.shape)
        start, warmup = c.warmup_teacher_temp, c.warmup_teacher_temp_epochs
        tau = temperature(start, c.teacher_temp, warmup, progress)
        patch_tau = temperature(
            start, c.teacher_patch_temp, warmup, progress, delay=c.mask.start_epoch
        )
        targets = self.centre.sharpen(cls_logits, tau).unflatten(0, crops.shape[:2])
        patch_targets = self.patch_centre.sharpen(patch_logits[mask.flatten(0, 1)], patch_tau)
        # a few patches of every crop, the same however the batch is shared among processes
        some = patch_logits[:, :: max(1, patch_logits.shape[1] // PROBES)]
        patch_entropy = entropy(self.patch_centre.sharpen(some, patch_tau))
        self.centre.observe(cls_logits)
        self.patch_centre.observe(patch_logits)
        return targets, patch_targets, patch_entropy

    def frozen(self, progress: Progress) -> Iterable[nn.Parameter]:
        """Prototypes, both layers, stay put for the first epochs (trap T9)."""
        if progress.step >= self.config.freeze_last_layer * progress.steps_per_epoch:
            return
        head = self.student["head"]
        yield from head.last_layer.parameters()
        if head.last_layer2 is not None:
            yield from head.last_layer2.parameters()

    def after_step(self, progress: Progress) -> None:
        update_teacher(self.student, self.teacher, cosine(self.config.momentum, 1.0, progress))
        self.centre.step()
        self.patch_centre.step()

    def discard(self) -> None:
        self.centre.forget()
        self.patch_centre.forget()

    def backbone(self) -> nn.Module:
        return self.teacher["backbone"]

    def head(self) -> nn.Module:
        return self.teacher["head"]

    @classmethod
    def official_head(cls, tensors: Mapping[str, Tensor]) -> nn.Module | None:
        return official_head(tensors)

    def health(self) -> Mapping[str, float]:
        c = self.config
        uniform, patch = math.log(c.out_dim), math.log(c.patch_dim)
        return {"loss_cls": uniform, "teacher_entropy": uniform, "patch_entropy": patch}
