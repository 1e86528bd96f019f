"""Our losses and head against lightly's, which follow the official DINO and DINOv2 code.

Where the definitions differ: lightly's IBOTPatchLoss, as DINOv2's, takes the images of all views as
one batch (the same mean, since every view has as many images) and moves its centre by the masked
tokens it is given, whereas iBOT's centre is the mean over all patches (trap T1): so the tests give
it our centre, and compare its `Center` with ours on all tokens by itself.
"""

import pytest
import torch
from lightly.loss import DINOLoss, IBOTPatchLoss
from lightly.models.modules.center import Center
from lightly.models.modules.heads import DINOProjectionHead
from lightly.models.utils import update_momentum

from sslbench.methods.heads import ProjectionHead
from sslbench.methods.losses import Centre, cls_loss, patch_loss
from sslbench.methods.self_distillation import update_teacher
from tests.methods.small import shake

STUDENT_TEMP, TEACHER_TEMP, DIM = 0.1, 0.05, 13


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("views", [2, 3, 12])
def test_three_steps_of_dinos_loss(views):
    """Loss, the student's gradient and the centre, which the next loss depends on."""
    peer = DINOLoss(DIM, teacher_temp=TEACHER_TEMP, student_temp=STUDENT_TEMP, center_momentum=0.8)
    centre = Centre(DIM, momentum=0.8)
    for _ in range(3):
        student = torch.randn(views, 4, DIM, requires_grad=True)
        copy = student.detach().clone().requires_grad_()
        teacher = torch.randn(2, 4, DIM) + 1
        loss = cls_loss(student, centre.sharpen(teacher, TEACHER_TEMP), STUDENT_TEMP)
        centre.observe(teacher)
        centre.step()
        theirs = peer(list(teacher), list(copy), teacher_temp=TEACHER_TEMP)
        for value in (loss, theirs):
            value.backward()
        close(loss, theirs)
        close(student.grad, copy.grad)
        close(centre.value, peer.center.flatten())


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_ibots_patch_loss(ratio):
    mask = torch.rand(2, 5, 4, 4) < ratio * torch.rand(2, 5, 1, 1).round()
    student = torch.randn(int(mask.sum()), DIM, requires_grad=True)
    copy = student.detach().clone().requires_grad_()
    teacher = torch.randn(len(student), DIM)
    centre, peer = Centre(DIM), IBOTPatchLoss(DIM, TEACHER_TEMP, STUDENT_TEMP)
    centre.value.copy_(torch.randn(DIM))
    peer.center.center = centre.value.clone()[None]
    targets = centre.sharpen(teacher, TEACHER_TEMP)
    loss = patch_loss(student, targets, mask.flatten(2), STUDENT_TEMP)
    theirs = peer(teacher, copy, mask.flatten(0, 1))
    for value in (loss, theirs):
        value.backward()
    close(loss, theirs)
    close(student.grad, copy.grad)
    assert (loss.item() > 0) is (ratio > 0)


def test_patch_centre_over_all_tokens():
    ours, peer = Centre(DIM), Center((1, 1, 1, DIM), momentum=0.9)
    for _ in range(3):
        tokens = torch.randn(2, 3, 16, DIM) + 2
        ours.observe(tokens)
        ours.step()
        peer.update(tokens)
    close(ours.value, peer.value.flatten())


@pytest.mark.parametrize("batch_norm", [False, True])
def test_projection_head(batch_norm):
    ours = shake(ProjectionHead(16, DIM, 24, 8, norm_last_layer=False, batch_norm=batch_norm))
    peer = DINOProjectionHead(16, 24, 8, DIM, batch_norm=batch_norm, norm_last_layer=False)
    linears, norms = (
        [m for m in peer.layers if isinstance(m, kind)]
        for kind in (torch.nn.Linear, torch.nn.BatchNorm1d)
    )
    copied = [*ours.layers, *(ours.norms if batch_norm else [])]
    for theirs, module in zip([*linears, *norms], copied, strict=True):
        own = module.state_dict()
        theirs.load_state_dict(
            {k: own.get(k, v) for k, v in theirs.state_dict().items()}, strict=False
        )
    peer.last_layer.load_state_dict(ours.last_layer.state_dict())
    x = torch.randn(9, 16)
    close(ours(x), peer(x))


def test_ema_of_the_teacher():
    student, teacher, copy = (shake(ProjectionHead(16, DIM, 24, 8)) for _ in range(3))
    copy.load_state_dict(teacher.state_dict())
    update_teacher(student, teacher, 0.97)
    update_momentum(student, copy, 0.97)
    for ours, theirs in zip(teacher.parameters(), copy.parameters(), strict=True):
        close(ours, theirs)
