"""A step of DINO and of iBOT in the order and the structure of main_dino.py and main_ibot.py."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslbench.method import Method, ViewBatch
from tests.reference.networks import Head, ViT, fill

STUDENT_TEMP, TEACHER_TEMP, CLIP, MOMENTUM = 0.1, 0.04, 3.0, 0.996


def networks(method: Method, rate: float) -> tuple[nn.ModuleDict, nn.ModuleDict]:
    """Student and teacher with the weights of our DINO or iBOT; rate: the student's drop path."""
    config, backbone = method.config, method.student["backbone"]
    heads = backbone.blocks[0].attn.num_heads
    sizes = (backbone.grid_size * backbone.patch_size, backbone.patch_size, backbone.embed_dim)
    pair = []
    for name, drop in (("student", rate), ("teacher", 0.0)):
        vit = ViT(*sizes, backbone.depth, heads, drop)
        tensors = method.get_submodule(name).state_dict()
        if "backbone.mask_token" not in tensors:
            vit.mask_token = None
        head = Head(backbone.embed_dim, config.out_dim, config.hidden_dim, config.bottleneck_dim)
        network = nn.ModuleDict({"backbone": vit, "head": head})
        fill(network, tensors)
        pair.append(network)
    student, teacher = pair
    if config.norm_last_layer:
        student["head"].last_layer.weight_g.requires_grad_(False)
    return student, teacher.requires_grad_(False)


class Official:
    """The student, its teacher, the centres and the optimiser of one run."""

    def __init__(self, method: Method, rate: float, bf16: bool = False) -> None:
        self.student, self.teacher = networks(method, rate)
        self.bf16 = bf16
        self.centre = torch.zeros(1, method.config.out_dim)
        self.centre2 = torch.zeros(1, 1, method.config.out_dim)
        parameters = dict(self.student.named_parameters())
        plain = [p for n, p in parameters.items() if p.ndim == 1 or n.endswith(".bias")]
        others = [p for p in parameters.values() if not any(p is q for q in plain)]
        groups = [{"params": others}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-5, weight_decay=0.04, foreach=False)

    def loss(self, batch: ViewBatch) -> Tensor:
        raise NotImplementedError

    def step(self, batch: ViewBatch) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        for p in self.student.parameters():
            if p.grad is not None:
                norm = p.grad.data.norm(2)
                coefficient = CLIP / (norm + 1e-6)
                if coefficient < 1:
                    p.grad.data.mul_(coefficient)
        self.optimizer.step()
        with torch.no_grad():
            source = dict(self.student.named_parameters())
            for name, t in self.teacher.named_parameters():
                t.data.mul_(MOMENTUM).add_((1 - MOMENTUM) * source[name].detach().data)


class OfficialDINO(Official):
    def loss(self, batch: ViewBatch) -> Tensor:
        glob, local = batch.images("global"), batch.images("local")
        teacher = self.logits(self.teacher, [glob])
        student = self.logits(self.student, [glob, local])
        views, crops = len(glob) + len(local), len(glob)
        outs = (student.float() / STUDENT_TEMP).chunk(views)
        targets = F.softmax((teacher.float() - self.centre) / TEACHER_TEMP, dim=-1)
        total, pairs = torch.zeros(()), 0
        for q, target in enumerate(targets.detach().chunk(crops)):
            for v in range(views):
                if v != q:
                    loss = torch.sum(-target * F.log_softmax(outs[v], dim=-1), dim=-1)
                    total, pairs = total + loss.mean(), pairs + 1
        with torch.no_grad():
            mean = torch.sum(teacher.float(), dim=0, keepdim=True) / len(teacher)
            self.centre = self.centre * 0.9 + mean * 0.1
        return total / pairs

    @staticmethod
    def logits(network: nn.ModuleDict, sizes: list[Tensor]) -> Tensor:
        cls = [network["backbone"](crops.flatten(0, 1))[:, 0] for crops in sizes]
        return network["head"](torch.cat(cls))


class OfficialIBOT(Official):
    def loss(self, batch: ViewBatch) -> Tensor:
        glob, masks = batch.images("global"), batch.masks["global"]
        teacher_cls, teacher_patch = self.logits(self.teacher, glob)
        student_cls, student_patch = self.logits(self.student, glob, masks)
        views, crops = len(glob), len(glob)
        if "local" in batch.crops:
            local, _ = self.logits(self.student, batch.images("local"))
            student_cls = torch.cat([student_cls, local])
            views += len(batch.crops["local"])
        cls_c = (student_cls.float() / STUDENT_TEMP).chunk(views)
        patch_c = (student_patch.float() / STUDENT_TEMP).chunk(crops)
        teacher_cls_c = F.softmax((teacher_cls.float() - self.centre) / TEACHER_TEMP, dim=-1)
        teacher_patch_c = F.softmax((teacher_patch.float() - self.centre2) / TEACHER_TEMP, dim=-1)
        cls_targets = teacher_cls_c.detach().chunk(crops)
        patch_targets = teacher_patch_c.detach().chunk(crops)
        total1, total2, pairs1, pairs2 = torch.zeros(()), torch.zeros(()), 0, 0
        for q in range(crops):
            for v in range(views):
                if v == q:
                    log_p = F.log_softmax(patch_c[v], dim=-1)
                    loss = torch.sum(-patch_targets[q] * log_p, dim=-1)
                    mask = masks[v].flatten(-2, -1)
                    loss = torch.sum(loss * mask.float(), dim=-1) / mask.sum(dim=-1).clamp(min=1.0)
                    total2, pairs2 = total2 + loss.mean(), pairs2 + 1
                else:
                    log_p = F.log_softmax(cls_c[v], dim=-1)
                    loss = torch.sum(-cls_targets[q] * log_p, dim=-1)
                    total1, pairs1 = total1 + loss.mean(), pairs1 + 1
        self.move_centres(teacher_cls.float(), teacher_patch.float())
        return total1 / pairs1 + total2 / pairs2

    @torch.no_grad()
    def move_centres(self, cls: Tensor, patch: Tensor) -> None:
        self.centre = self.centre * 0.9 + cls.sum(0, keepdim=True) / len(cls) * 0.1
        mean = patch.mean(1, keepdim=True).sum(0, keepdim=True) / len(patch)
        self.centre2 = self.centre2 * 0.9 + mean * 0.1

    @staticmethod
    def logits(
        network: nn.ModuleDict, crops: Tensor, masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits of [CLS] and of every patch."""
        flat = None if masks is None else masks.flatten(0, 1)
        logits = network["head"](network["backbone"](crops.flatten(0, 1), flat))
        return logits[:, 0], logits[:, 1:]
