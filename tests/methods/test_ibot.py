"""iBOT against its published step in float64 (steps.py), and what re-implementations get wrong."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from sslbench.data.masks import MaskConfig
from sslbench.errors import UserError
from sslbench.methods.ibot import IBOT, IBOTConfig
from tests.methods.small import (
    GRID,
    HEAD,
    PATCH,
    SHARING,
    at,
    gradients,
    make_backbone,
    make_batch,
    make_dino,
    make_ibot,
)
from tests.methods.steps import ibot_step, make_run, march

TEMPERATURES = (0.04, 0.05, 0.06)  # linspace(0.04, 0.06, 3)
PATCH_TEMPERATURES = (0.04, 0.04, 0.055)  # linspace(0.04, 0.07, 3), one epoch later
SETTINGS = {
    "momentum": 0.9,
    "teacher_temp": 0.06,
    "teacher_patch_temp": 0.07,
    "warmup_teacher_temp_epochs": 3.0,
    "freeze_last_layer": 2.0,
    "mask": MaskConfig(start_epoch=1.0),
}


def three_steps(method, local, masked=True):
    batches = [make_batch(seed, local=local, masked=masked) for seed in range(3)]

    def step(twin, batch, i):
        return ibot_step(twin, batch, TEMPERATURES[i], PATCH_TEMPERATURES[i])

    return march(make_run(method, len(batches[0])), batches, step)


@pytest.mark.parametrize("local", [0, 3])
@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("norm_last_layer", [True, False])
def test_three_steps_equal_the_published_ones(float64, local, sharing, norm_last_layer):
    settings = SETTINGS | SHARING[sharing] | {"norm_last_layer": norm_last_layer}
    errors = three_steps(make_ibot(**settings).double(), local)
    assert max(errors.values()) < 1e-5, errors  # 1 / count is taken in fp32


@pytest.mark.parametrize("local", [0, 3])
@pytest.mark.parametrize("masked", [True, False])
def test_three_steps_with_head_batch_norm_equal_the_published_ones(float64, local, masked):
    """Its statistics are over all tokens of one call of the head, masked or not."""
    errors = three_steps(make_ibot(**SETTINGS, head_batch_norm=True).double(), local, masked)
    assert max(errors.values()) < 1e-5, errors  # 1 / count is taken in fp32


def test_three_steps_without_any_mask_equal_the_published_ones(float64):
    errors = three_steps(make_ibot(**SETTINGS).double(), local=1, masked=False)
    assert max(errors.values()) < 1e-5, errors  # 1 / count is taken in fp32


def test_three_steps_in_fp32_stay_close():
    errors = three_steps(make_ibot(**SETTINGS), local=3)
    # AdamW makes steps of rounding noise where the gradient is 0 by symmetry: a key's bias
    assert max(errors.pop("student"), errors.pop("teacher")) < 1e-2
    assert max(errors.values()) < 2e-5, errors


def test_the_student_sees_masked_globals_and_whole_locals(monkeypatch):
    method, batch = make_ibot(), make_batch(0, local=2)
    whole, student = [], method.student["backbone"]
    of_cls, of_masked, masks = student.cls_tokens, student.cls_and_masked, []
    monkeypatch.setattr(student, "cls_tokens", lambda x: whole.append(x) or of_cls(x))
    monkeypatch.setattr(
        student, "cls_and_masked", lambda x, m, p: masks.append(m) or of_masked(x, m, p)
    )
    teachers = []
    method.teacher["backbone"].register_forward_hook(lambda m, a, o: teachers.append(a))
    method(batch, at(0))
    (hidden,) = masks
    assert torch.equal(hidden, batch.masks["global"].flatten(0, 1))
    (local,) = whole
    assert torch.equal(local, batch.images("local").flatten(0, 1))
    ((seen,),) = teachers  # and no mask
    assert torch.equal(seen, batch.images("global").flatten(0, 1))


@pytest.mark.parametrize("make", [make_ibot, make_dino])
def test_a_step_that_is_not_logged_trains_the_same(make):
    steps = []
    for logged in (True, False):
        method, batch = make(), make_batch(0, local=2)
        values = method(batch, replace(at(0), logged=logged))
        values["loss"].backward()
        method.after_step(at(0))
        steps.append((values, gradients(method), dict(method.named_buffers())))
    (every, *trained), (few, *same) = steps
    assert "teacher_entropy" in every and "teacher_entropy" not in few
    assert torch.equal(every["loss"], few["loss"])
    for ours, theirs in zip(trained, same, strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def flat_teacher_loss(method, batch):
    """Both loss terms under a teacher that answers uniformly, whatever it sees."""
    torch.nn.init.zeros_(method.teacher["head"].last_layer.weight_g)
    values = method(batch, at(0))
    return torch.stack([values["loss_cls"], values["loss_patch"]])


def test_the_student_cannot_see_behind_the_mask():
    """Trap T2: neither its [CLS] nor its patches depend on the masked pixels."""
    method, batch = make_ibot(), make_batch(1)
    hidden = batch.masks["global"].repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    assert hidden.any()
    for changed, same in ((hidden, True), (~hidden, False)):
        crops = torch.where(changed[:, :, None], 255 - batch.crops["global"], batch.crops["global"])
        losses = [
            flat_teacher_loss(method, b) for b in (batch, replace(batch, crops={"global": crops}))
        ]
        assert torch.equal(*losses) is same


def test_the_patch_centre_is_the_mean_of_all_patches():
    """Trap T1: masked or not; here nothing is masked at all, and the mask changes nothing."""
    for masked in (False, True):
        method, batch = make_ibot(), make_batch(2, masked=masked)
        crops = batch.images("global").flatten(0, 1)
        patches = method.teacher["backbone"](crops).patches.flatten(0, 1)
        assert len(patches) == 6 * GRID**2
        head = method.teacher["head"]
        expected = 0.1 * head(patches).mean(0)  # the prototypes are shared
        method(batch, at(0))
        method.after_step(at(0))
        torch.testing.assert_close(method.patch_centre.value, expected, rtol=1e-5, atol=1e-7)


def test_unmasked_images_stay_in_the_mean():
    """Trap T4: three of six crops masked give half the loss of those three crops alone."""
    method, batch = make_ibot(), make_batch(3, size=3)
    mask = torch.zeros(2, 3, GRID, GRID, dtype=torch.bool)
    mask[0, :, 0] = True
    half = replace(batch, masks={"global": mask})
    first = [0, 0]  # the masked view twice
    masked = replace(
        batch, crops={"global": batch.crops["global"][first]}, masks={"global": mask[first]}
    )
    losses = [float(method(b, at(0))["loss_patch"]) for b in (half, masked)]
    assert losses[0] == pytest.approx(losses[1] / 2, rel=1e-5)


def test_the_mask_token_is_the_students_alone():
    method = make_ibot()
    assert "backbone.mask_token" in dict(method.student.named_parameters())
    assert "backbone.mask_token" not in method.teacher.state_dict()
    method(make_batch(0), at(0))["loss"].backward()
    assert float(method.student["backbone"].mask_token.grad.abs().sum()) > 0


def test_loss_weights_scale_the_two_terms():
    method = make_ibot(cls_weight=0.5, patch_weight=2.0)
    values = method(make_batch(0), at(0))
    expected = 0.5 * values["loss_cls"] + 2 * values["loss_patch"]
    torch.testing.assert_close(values["loss"].detach(), expected)
    assert float(values["loss_patch"]) > 0


def official_start(student, teacher):
    """What main_ibot.py:224-263 does, on plain layers: the teacher's alias is filled twice."""
    networks = []
    for shared in (student, teacher):
        head = nn.Module()
        head.last_layer = nn.Linear(3, 2)
        head.last_layer2 = head.last_layer if shared else nn.Linear(3, 2)
        networks.append(head)
    networks[1].load_state_dict(networks[0].state_dict(), strict=False)
    return networks


@pytest.mark.parametrize(("sharing", "shared"), [("semi-shared", True), ("separate", False)])
def test_the_teacher_starts_with_the_students_prototypes_for_patches(sharing, shared):
    """Semi-shared: with these for [CLS] too, which then move to the student's for [CLS]."""
    ours = IBOT(IBOTConfig(**HEAD | SHARING[sharing]), make_backbone())
    student, teacher = (network["head"] for network in (ours.student, ours.teacher))
    peer, taught = official_start(False, shared)
    for mine, his in (("last_layer", "last_layer2"), ("last_layer", "last_layer")):
        same = torch.equal(getattr(taught, mine).weight, getattr(peer, his).weight)
        own, other = getattr(teacher, mine).weight_v, getattr(student, his).weight_v
        assert torch.equal(own, other) is same
    assert (teacher.last_layer2 is None) is shared
    before = teacher.last_layer.weight_v.clone()
    ours.after_step(at(0))
    moved = 0.996 * before + 0.004 * student.last_layer.weight_v
    torch.testing.assert_close(teacher.last_layer.weight_v, moved)


def test_heads_that_cannot_be_are_refused():
    with pytest.raises(UserError, match=r"shared_head_teacher=False needs .*shared_head=False"):
        IBOTConfig(shared_head_teacher=False)
    with pytest.raises(UserError, match=r"patch_out_dim=10 must be method\.out_dim=12"):
        IBOTConfig(shared_head=False, out_dim=12, patch_out_dim=10)


@pytest.mark.parametrize("sharing", SHARING)
def test_health_bounds_are_those_of_a_uniform_teacher(sharing):
    method = make_ibot(**SHARING[sharing])
    head = method.teacher["head"]
    for layer in filter(None, (head.last_layer, head.last_layer2)):
        torch.nn.init.zeros_(layer.weight_g)
    values, bounds = method(make_batch(0), at(0)), method.health()
    for key in ("teacher_entropy", "patch_entropy"):
        assert values[key].item() == pytest.approx(bounds[key], rel=1e-6)
    assert bounds["patch_entropy"] == math.log(10 if sharing == "separate" else 12)
