"""iBOT's step with lightly's modules and losses, put together as in its documented example.

Its centre of patches is the mean of the masked ones, where iBOT's own is that of all (trap T1), so
it leaves out the head on the teacher's other patches.
"""

from __future__ import annotations

import timm
import torch
from lightly.loss import DINOLoss, IBOTPatchLoss
from lightly.models.modules import DINOProjectionHead, MaskedVisionTransformerTIMM
from lightly.models.utils import deactivate_requires_grad, update_momentum
from torch import Tensor, nn

from sslbench.method import ViewBatch
from tests.speed.race import Race
from tests.speed.steps import BATCH, DROP_PATH, WORK, build, draw_batch, run_of, stepping

OUT_DIM, CLIP, MOMENTUM = 8192, 3.0, 0.996


def networks(drop_path: float) -> tuple[nn.Module, nn.Module]:
    vit = timm.create_model(
        "vit_small_patch16_224", dynamic_img_size=True, drop_path_rate=drop_path
    )
    head = DINOProjectionHead(384, 2048, 256, OUT_DIM, norm_last_layer=False)
    return MaskedVisionTransformerTIMM(vit), head


class LightlyIBOT:
    def __init__(self, bf16: bool) -> None:
        self.bf16 = bf16
        self.backbone, self.head = networks(DROP_PATH)
        self.teacher_backbone, self.teacher_head = networks(0.0)
        teachers = (self.teacher_backbone, self.teacher_head)
        for ours, teacher in zip((self.backbone, self.head), teachers, strict=True):
            teacher.load_state_dict(ours.state_dict())
            deactivate_requires_grad(teacher)
        self.dino_loss = DINOLoss(OUT_DIM, warmup_teacher_temp_epochs=0)
        self.patch_loss = IBOTPatchLoss(OUT_DIM)
        trained = [*self.backbone.parameters(), *self.head.parameters()]
        self.trained = trained
        self.optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.04)

    def step(self, batch: ViewBatch) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = self.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        update_momentum(self.backbone, self.teacher_backbone, m=MOMENTUM)
        update_momentum(self.head, self.teacher_head, m=MOMENTUM)

    def loss(self, batch: ViewBatch) -> Tensor:
        crops, block_mask = batch.images("global"), batch.masks["global"].flatten(0, 1)
        mask = torch.cat([torch.zeros_like(block_mask[:, 0, :1]), block_mask.flatten(1)], dim=1)
        images = crops.flatten(0, 1)
        with torch.no_grad():
            tokens = self.teacher_backbone.encode(images)
            teacher_cls, teacher_masked = map(self.teacher_head, (tokens[:, 0], tokens[mask]))
        tokens = self.backbone.encode(images, mask=mask)
        cls, masked = self.head(tokens[:, 0]), self.head(tokens[mask])
        local = self.head(self.backbone.encode(batch.images("local").flatten(0, 1))[:, 0])
        views = len(batch.crops["local"])
        dino = self.dino_loss(
            list(teacher_cls.float().chunk(len(crops))),
            [*cls.float().chunk(len(crops)), *local.float().chunk(views)],
        )
        patch = self.patch_loss(teacher_masked.float(), masked.float(), mask=block_mask)
        return dino + patch


def race(precision: str) -> Race:
    method = build("ibot")
    batch = draw_batch(method, BATCH)
    method.student["backbone"].set_drop_path(DROP_PATH)
    peer, ours = LightlyIBOT(precision == "bf16"), stepping(run_of(method, precision), batch)
    same = "the same crops, masks and sizes; lightly's centre is that of masked patches alone"
    name = f"ibot-lightly-{precision}"
    work = f"{WORK['ibot']}, batch {BATCH}, {precision}: one step"
    rival = "lightly's modules"
    return Race(
        name, work, ours, {rival: lambda: peer.step(batch)}, {rival: 1.05}, "images", BATCH, same
    )


def fp32() -> Race:
    return race("fp32")


def bf16() -> Race:
    return race("bf16")
