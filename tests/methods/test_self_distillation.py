"""What DINO and iBOT share: the EMA teacher, accumulation, the frozen prototypes."""

import pytest
import torch
from torch import nn

from sslbench.methods.heads import WeightNormLinear
from sslbench.methods.self_distillation import make_teacher, update_teacher
from sslbench.recipes.recipe import OptimConfig
from sslbench.training.optim import make_optimizer
from tests.methods.small import (
    SHARING,
    at,
    gradients,
    make_backbone,
    make_batch,
    make_dino,
    make_ibot,
    merge,
    shake,
    weights,
)

MAKERS = {
    "dino": make_dino,
    "ibot": make_ibot,
    "ibot-semi": lambda *a, **k: make_ibot(*a, **SHARING["semi-shared"], **k),
    "ibot-unshared": lambda *a, **k: make_ibot(*a, **SHARING["separate"], **k),
}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


def centres(method):
    return {k: v.clone() for k, v in method.state_dict().items() if "centre" in k}


def test_the_teacher_starts_as_the_student_and_takes_no_gradient(make):
    method = make()
    method(make_batch(0, local=1), at(0))["loss"].backward()
    assert not any(p.requires_grad or p.grad is not None for p in method.teacher.parameters())
    fresh = type(method)(method.config, make_backbone())
    student = fresh.student.state_dict()
    teacher = fresh.teacher.state_dict()
    if "head.last_layer2.weight_v" not in teacher:  # semi-shared: test_ibot.py says why
        second = {k: v for k, v in student.items() if "last_layer2" in k}
        student |= {k.replace("last_layer2", "last_layer"): v for k, v in second.items()}
    assert all(torch.equal(v, student[k]) for k, v in teacher.items())


def test_the_teacher_has_no_drop_path_but_stays_in_train_mode(make):
    method, images = make(drop_path=0.9), make_batch(0, size=8).images("global")[0]
    for network, drops in ((method.teacher, False), (method.student, True)):
        assert network.training
        backbone = network["backbone"]
        trained = backbone(images).cls
        assert torch.equal(trained, backbone.eval()(images).cls) is not drops
        backbone.train()


def test_every_trained_parameter_gets_a_gradient(make):
    method = make(norm_last_layer=False)
    method(make_batch(0, local=1), at(0))["loss"].backward()
    wanted = {n for n, p in method.named_parameters() if p.requires_grad}
    assert set(gradients(method)) == wanted
    assert all(n.startswith("student.") for n in wanted)


def test_micro_batches_give_the_mean_gradient_and_one_update(make):
    one, two = make_batch(0, local=1), make_batch(1, local=1)
    method, whole = make(momentum=0.9), make(momentum=0.9)
    for batch in (one, two):
        (method(batch, at(0))["loss"] / 2).backward()
    whole(merge(one, two), at(0))["loss"].backward()
    for name, expected in gradients(whole).items():
        found = gradients(method)[name]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    for m in (method, whole):
        m.after_step(at(0))
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(method.state_dict()[name], value, rtol=1e-5, atol=1e-7)
    assert all(float(v.abs().max()) > 0 for v in centres(method).values())


def train_step(method, optimizer, progress):
    """What the trainer does with `frozen`: drop the gradients, then step."""
    method(make_batch(progress.step), progress)["loss"].backward()
    for parameter in method.frozen(progress):
        parameter.grad = None
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    optimizer.step()
    method.after_step(progress)
    optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("norm_last_layer", [True, False])
def test_frozen_prototypes_keep_weight_and_state(make, norm_last_layer):
    """Trap T9: no decay and no momentum either, for the first epochs and no longer."""
    method = make(norm_last_layer=norm_last_layer, freeze_last_layer=1.0)
    optimizer = make_optimizer(method, OptimConfig(weight_decay=0.5))
    last = {n: p for n, p in method.named_parameters() if n.startswith("student.head.last_layer")}
    start = weights(method)
    for step in range(2):
        train_step(method, optimizer, at(step, 8, steps_per_epoch=2))
        assert all(torch.equal(p, start[n]) and p not in optimizer.state for n, p in last.items())
    assert not torch.equal(
        method.student["head"].layers[0].weight, start["student.head.layers.0.weight"]
    )
    train_step(method, optimizer, at(2, 8, steps_per_epoch=2))
    for name, p in last.items():
        assert torch.equal(p, start[name]) is not p.requires_grad


def test_exports_the_teacher(make):
    method = make()
    assert method.backbone() is method.teacher["backbone"]
    assert method.head() is method.teacher["head"]
    assert method.head()(torch.randn(2, 16)).shape == (2, 12)


def test_update_teacher_is_an_ema_by_name():
    student = nn.ModuleDict({"a": WeightNormLinear(4, 3, True), "mask": nn.Linear(2, 2)})
    student["norm"] = nn.BatchNorm1d(4)
    teacher = nn.ModuleDict({"norm": nn.BatchNorm1d(4), "a": WeightNormLinear(4, 3, True)})
    make_teacher(student, teacher)
    before = weights(teacher)
    assert all(torch.equal(v, weights(student)[k]) for k, v in before.items())
    shake(student)
    student["norm"].running_mean += 5
    update_teacher(student, teacher, 0.75)
    for name, value in weights(teacher).items():
        expected = 0.75 * before[name].double() + 0.25 * weights(student)[name].double()
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-7)
    assert float(teacher["norm"].running_mean.abs().max()) == 0  # buffers are not averaged


def test_make_teacher_refuses_a_student_that_lacks_a_weight():
    with pytest.raises(RuntimeError, match="Missing key"):
        make_teacher(nn.Identity(), nn.Linear(2, 2))
