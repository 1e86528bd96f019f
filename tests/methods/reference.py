"""The published losses and steps, written anew in float64 for the tests to compare with."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from sslbench.method import Method, ViewBatch

STUDENT_TEMP = 0.1


def cross_entropy(logits: np.ndarray, target: np.ndarray, tau: float) -> tuple[float, np.ndarray]:
    """-target . log softmax(logits / tau) and its gradient by the logits (K,)."""
    scaled = logits / tau
    log_p = scaled - scaled.max() - np.log(np.exp(scaled - scaled.max()).sum())
    return -(target @ log_p), (np.exp(log_p) * target.sum() - target) / tau


def numpy_cls_loss(student: np.ndarray, teacher: np.ndarray, tau: float):
    """DINO eq. 3 pair by pair; student (V, B, K), teacher (G, B, K); the loss and its gradient."""
    images = student.shape[1]
    pairs = [(q, v) for q in range(len(teacher)) for v in range(len(student)) if q != v]
    loss, gradient = 0.0, np.zeros_like(student)
    for (q, v), b in product(pairs, range(images)):
        value, slope = cross_entropy(student[v, b], teacher[q, b], tau)
        loss += value / images / len(pairs)
        gradient[v, b] += slope / images / len(pairs)
    return loss, gradient


def numpy_patch_loss(student: np.ndarray, teacher: np.ndarray, mask: np.ndarray, tau: float):
    """iBOT's MIM loss token by token; all (V, B, N[, K]); the loss and its gradient."""
    views, images, patches = mask.shape
    loss, gradient = 0.0, np.zeros_like(student)
    for v, b in product(range(views), range(images)):
        share = 1 / max(1, mask[v, b].sum()) / images / views
        for i in range(patches):
            if mask[v, b, i]:
                value, slope = cross_entropy(student[v, b, i], teacher[v, b, i], tau)
                loss += value * share
                gradient[v, b, i] = slope * share
    return loss, gradient


def normalised(batch: ViewBatch, name: str) -> Tensor:
    mean, std = (torch.tensor(x).double().view(3, 1, 1) for x in (batch.mean, batch.std))
    return (batch.crops[name].double() / 255 - mean) / std


def sharpen(logits: Tensor, centre: Tensor, tau: float) -> Tensor:
    return torch.softmax((logits - centre) / tau, dim=-1).detach()


def crossed(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy of every row, with the student's temperature."""
    return -(teacher * torch.log_softmax(student / STUDENT_TEMP, dim=-1)).sum(-1)


def mean_entropy(p: Tensor) -> Tensor:
    return -torch.special.xlogy(p, p).sum(-1).mean()


class Twin:
    """float64 copies of student, teacher and centres; plain SGD stands for the optimiser."""

    def __init__(self, method: Method) -> None:
        self.student = copy.deepcopy(method.student).double()
        self.teacher = copy.deepcopy(method.teacher).double()
        names = [n for n in ("centre", "patch_centre") if hasattr(method, n)]
        self.centres = {n: getattr(method, n).value.double().clone() for n in names}
        self.seen: dict[str, Tensor] = {}

    def teach(self, crops: Tensor) -> tuple[Tensor, Tensor | None]:
        """Raw [CLS] logits (B, K) and, for iBOT, patch logits (B, N, K) of one view."""
        tokens, head = self.teacher["backbone"](crops), self.teacher["head"]
        if "patch_centre" not in self.centres:
            return head(tokens.cls), None
        return head(tokens.cls), head.patches(tokens.patches.flatten(0, 1)).unflatten(
            0, tokens.patches.shape[:2]
        )

    def learn(self, crops: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The student's [CLS] logits (B, K) and patch tokens (B, N, D) of one view."""
        tokens = self.student["backbone"](crops, mask)
        return self.student["head"](tokens.cls), tokens.patches

    def finish(self, lr: float, momentum: float) -> None:
        """SGD, then the teacher's EMA by name, then the centres'."""
        with torch.no_grad():
            for p in self.student.parameters():
                if p.grad is not None:
                    p -= lr * p.grad
                    p.grad = None
            source = dict(self.student.named_parameters())
            for name, p in self.teacher.named_parameters():
                p.copy_(momentum * p + (1 - momentum) * source[name])
            for name, logits in self.seen.items():
                mean = logits.flatten(0, -2).mean(0)
                self.centres[name] = 0.9 * self.centres[name] + 0.1 * mean


def cls_term(twin: Twin, students: list[Tensor], targets: list[Tensor]) -> Tensor:
    pairs = [(q, v) for q in range(len(targets)) for v in range(len(students)) if q != v]
    return sum(crossed(students[v], targets[q]).mean() for q, v in pairs) / len(pairs)


def dino_step(twin: Twin, batch: ViewBatch, tau: float) -> dict[str, Tensor]:
    """DINO's forward; every view goes through the networks by itself."""
    crops = normalised(batch, "global")
    raw = torch.stack([twin.teach(view)[0] for view in crops]).detach()
    targets = [sharpen(logits, twin.centres["centre"], tau) for logits in raw]
    views = list(crops)
    if "local" in batch.crops:
        views += list(normalised(batch, "local"))
    students = [twin.learn(view)[0] for view in views]
    twin.seen = {"centre": raw}
    return {
        "loss": cls_term(twin, students, targets),
        "teacher_entropy": mean_entropy(torch.stack(targets)),
    }


def ibot_step(twin: Twin, batch: ViewBatch, tau: float, patch_tau: float) -> dict[str, Tensor]:
    """iBOT's forward; the MIM loss image by image over logits of *all* patches."""
    crops, masks = normalised(batch, "global"), batch.masks["global"]
    raw, raw_patches = (torch.stack(x).detach() for x in zip(*map(twin.teach, crops), strict=True))
    targets = [sharpen(x, twin.centres["centre"], tau) for x in raw]
    patch_targets = sharpen(raw_patches, twin.centres["patch_centre"], patch_tau)
    students, patches = zip(*map(twin.learn, crops, masks), strict=True)
    students = list(students)
    if "local" in batch.crops:
        students += [twin.learn(view)[0] for view in normalised(batch, "local")]
    losses = []
    for v, b in product(range(len(crops)), range(len(batch))):
        hidden = masks[v, b].flatten()
        each = crossed(twin.student["head"].patches(patches[v][b]), patch_targets[v, b])
        losses.append((each * hidden).sum() / max(1, int(hidden.sum())))
    cls, patch = cls_term(twin, students, targets), torch.stack(losses).mean()
    twin.seen = {"centre": raw, "patch_centre": raw_patches}
    return {
        "loss": cls + patch,
        "loss_cls": cls,
        "loss_patch": patch,
        "teacher_entropy": mean_entropy(torch.stack(targets)),
        "masked": masks.double().mean(),
    }


def worst(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """Largest difference of any tensor, relative to that tensor's largest entry.

    Tensors whose entries are below 1e-3 of the overall largest count as that large: a key's bias
    has no gradient but rounding noise.
    """
    assert set(ours) == set(theirs)
    sizes = {k: float(t.detach().abs().max()) for k, t in theirs.items()}
    floor = 1e-3 * max(sizes.values())
    gaps = {
        k: float((ours[k].detach().double() - t.detach()).abs().max()) for k, t in theirs.items()
    }
    return max(gaps[k] / max(sizes[k], floor) for k in gaps)


def march(
    method: Method,
    batches: list[ViewBatch],
    step: Callable[[Twin, ViewBatch, int], dict[str, Tensor]],
    progress: Callable,
) -> dict[str, float]:
    """Steps `method` and its twin over `batches`; the largest relative difference of each kind."""
    twin, lr, errors = Twin(method), 0.3, {}
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr)

    def note(kind: str, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
        errors[kind] = max(errors.get(kind, 0.0), worst(ours, theirs))

    for i, batch in enumerate(batches):
        values, expected = method(batch, progress(i)), step(twin, batch, i)
        values["loss"].backward()
        expected["loss"].backward()
        note("values", {k: values[k] for k in expected}, expected)
        note("gradients", slopes(method.student), slopes(twin.student))
        optimizer.step()
        method.after_step(progress(i))
        optimizer.zero_grad(set_to_none=True)
        twin.finish(lr, 1 - 0.1 * (1 + math.cos(math.pi * i / progress(i).total_steps)) / 2)
        for name in ("student", "teacher"):
            pair = (dict(getattr(m, name).named_parameters()) for m in (method, twin))
            note(name, *pair)
        note("centres", {k: getattr(method, k).value for k in twin.centres}, twin.centres)
    return errors


def slopes(module: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
